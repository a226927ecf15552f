// 16 x 16 matrices that the threads of a subgroup hold together: f16 factors, f32 sums.
#import place

alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sum = coop_mat16x16<f32, C>;

fn warp_of(place: Place) -> u32 {
    return place.subgroup;
}

fn multiply_add(a: Left, b: Right, c: Sum) -> Sum {
    return coopMultiplyAdd(a, b, c);
}
