// Sums over the lanes of a row, which are the whole workgroup, by subgroups. Nothing is assumed of their size, nor of
// which lanes they have; on one adapter the order of the additions is always the same.

var<workgroup> scratch: array<vec4<f32>, 256>;
var<private> subgroup: u32;
var<private> subgroups: u32;
var<private> subgroup_lane: u32;

// The sum of what the lanes of the workgroup have; each of them gets it. Every one takes part.
fn team_sum(value: vec4<f32>, index: u32, team: u32) -> vec4<f32> {
    let of_subgroup = subgroupAdd(value);
    if subgroup_lane == 0u {
        scratch[subgroup] = of_subgroup;
    }
    workgroupBarrier();
    // By 16, since a driver's subgroups may have but four lanes.
    var total = vec4<f32>();
    for (var first = 0u; first < subgroups; first += 16u) {
        var part = scratch[first];
        for (var i = first + 1u; i < min(first + 16u, subgroups); i++) {
            part += scratch[i];
        }
        total += part;
    }
    // The next call writes what this one reads.
    workgroupBarrier();
    return total;
}
