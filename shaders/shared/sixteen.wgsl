// 64 x 64 sums of a subgroup as 4 x 4 matrices. The importing shader has the types (matrices.wgsl).

// 16 x 16 of its rows and columns each.
struct Sums {
    c00: Sum,
    c01: Sum,
    c02: Sum,
    c03: Sum,
    c10: Sum,
    c11: Sum,
    c12: Sum,
    c13: Sum,
    c20: Sum,
    c21: Sum,
    c22: Sum,
    c23: Sum,
    c30: Sum,
    c31: Sum,
    c32: Sum,
    c33: Sum,
}

// The right factors of a step.
struct Rights {
    b0: Right,
    b1: Right,
    b2: Right,
    b3: Right,
}

// Adds the products of a subgroup's first 32 rows.
fn upper(a0: Left, a1: Left, b: Rights, c: ptr<function, Sums>) {
    (*c).c00 = multiply_add(a0, b.b0, (*c).c00);
    (*c).c01 = multiply_add(a0, b.b1, (*c).c01);
    (*c).c02 = multiply_add(a0, b.b2, (*c).c02);
    (*c).c03 = multiply_add(a0, b.b3, (*c).c03);
    (*c).c10 = multiply_add(a1, b.b0, (*c).c10);
    (*c).c11 = multiply_add(a1, b.b1, (*c).c11);
    (*c).c12 = multiply_add(a1, b.b2, (*c).c12);
    (*c).c13 = multiply_add(a1, b.b3, (*c).c13);
}

// And of the others.
fn lower(a2: Left, a3: Left, b: Rights, c: ptr<function, Sums>) {
    (*c).c20 = multiply_add(a2, b.b0, (*c).c20);
    (*c).c21 = multiply_add(a2, b.b1, (*c).c21);
    (*c).c22 = multiply_add(a2, b.b2, (*c).c22);
    (*c).c23 = multiply_add(a2, b.b3, (*c).c23);
    (*c).c30 = multiply_add(a3, b.b0, (*c).c30);
    (*c).c31 = multiply_add(a3, b.b1, (*c).c31);
    (*c).c32 = multiply_add(a3, b.b2, (*c).c32);
    (*c).c33 = multiply_add(a3, b.b3, (*c).c33);
}
