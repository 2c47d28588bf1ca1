// Sums over the lanes of a row, which are the whole workgroup, by subgroups. Nothing is assumed of their size, nor of
// which lanes they have; on one adapter the order of the additions is always the same.

var<workgroup> scratch: array<vec4<f32>, 256>;
var<private> subgroup: u32;
var<private> subgroups: u32;
var<private> subgroup_lane: u32;
// Lanes of every subgroup.
var<private> subgroup_lanes: u32;

// The sum of what the lanes of the workgroup have; each of them gets it. Every one takes part.
fn team_sum(value: vec4<f32>, index: u32, team: u32) -> vec4<f32> {
    let of_subgroup = subgroupAdd(value);
    if subgroup_lane == 0u {
        scratch[subgroup] = of_subgroup;
    }
    workgroupBarrier();
    // Each subgroup adds up what all of them left: with subgroups of four lanes, of which there are 64, a lane adds 16.
    var part = vec4<f32>();
    for (var i = subgroup_lane; i < subgroups; i += subgroup_lanes) {
        part += scratch[i];
    }
    let total = subgroupAdd(part);
    // The next call writes what this one reads.
    workgroupBarrier();
    return total;
}
