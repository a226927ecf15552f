// Scales of the groups that column `first` of the operands is in, of a thread's four columns or rows.
#import tile
#import weight_scale

fn column_scales(col: u32, first: u32) -> vec4<f32> {
    return scales_of_rows(columns(col), (params.k + params.group - 1u) / params.group, first / params.group);
}

fn row_scales(row: u32, first: u32) -> vec4<f32> {
    let i = rows(row) * ((params.k + params.x_group - 1u) / params.x_group) + first / params.x_group;
    return vec4(scales[i.x], scales[i.y], scales[i.z], scales[i.w]);
}
