// Scales of the groups that column `first` of the operands is in, of a thread's four columns or rows.
#import tile

fn column_scales(col: u32, first: u32) -> vec4<f32> {
    let i = columns(col) * ((params.k + params.group - 1u) / params.group) + first / params.group;
    return vec4(weight_scales[i.x], weight_scales[i.y], weight_scales[i.z], weight_scales[i.w]);
}

fn row_scales(row: u32, first: u32) -> vec4<f32> {
    let i = rows(row) * ((params.k + params.x_group - 1u) / params.x_group) + first / params.x_group;
    return vec4(scales[i.x], scales[i.y], scales[i.z], scales[i.w]);
}
