// A dispatch has at most 65535 workgroups an axis; the host folds more of them into rows of a grid.

fn linear_workgroup(workgroup: vec3<u32>, grid: vec3<u32>) -> u32 {
    return workgroup.x + grid.x * workgroup.y;
}
