// The same on channels-first data: a workgroup for a tile of positions.

// A norm has its statistics here.
alias Affine = u32;

fn run(workgroup: u32, index: u32) {
    let at = position_of(workgroup, index);
    write_position(at, params.x_start + at.begin.x, Affine(), index);
}
