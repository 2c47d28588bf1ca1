// Sums over the lanes of a row, by workgroup memory alone. A team is a power of two of lanes that follow one another;
// the order of the additions depends on its size and on nothing else.

var<workgroup> scratch: array<vec4<f32>, 256>;
var<workgroup> folded: array<vec4<f32>, 256>;

// The sum of what the lanes of a team have; each of them gets it. Every lane of the workgroup takes part.
fn team_sum(value: vec4<f32>, index: u32, team: u32) -> vec4<f32> {
    if team == 1u {
        return value;
    }
    // Two steps of at most 16 additions. The second memory is what makes two barriers enough for a call.
    let group = min(team, 16u);
    scratch[index] = value;
    workgroupBarrier();
    if index % group == 0u {
        var part = scratch[index];
        for (var i = 1u; i < group; i++) {
            part += scratch[index + i];
        }
        folded[index / group] = part;
    }
    workgroupBarrier();
    let groups = team / group;
    let first = index / team * groups;
    var total = folded[first];
    for (var i = 1u; i < groups; i++) {
        total += folded[first + i];
    }
    return total;
}
