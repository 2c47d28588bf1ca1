// Whether rows of a workgroup stray. The answer is uniform by the rules of WGSL, so that barriers may follow.

var<workgroup> vote: atomic<u32>;
var<workgroup> verdict: u32;

fn any_of_workgroup(stray: bool, index: u32) -> bool {
    if index == 0u {
        atomicStore(&vote, 0u);
    }
    workgroupBarrier();
    if stray {
        atomicStore(&vote, 1u);
    }
    workgroupBarrier();
    if index == 0u {
        verdict = atomicLoad(&vote);
    }
    return workgroupUniformLoad(&verdict) != 0u;
}
