// Scalar functions that must not overflow on the way to a finite result.

fn silu(x: f32) -> f32 {
    // exp(-x) overflows below -88: silu is 0 there to f32 precision.
    return x / (1.0 + exp(min(-x, 80.0)));
}

// log(1 + exp(x)); above 20 it is x to f32 precision (torch's threshold).
fn softplus(x: f32) -> f32 {
    return select(log1p_exp(x), x, x > 20.0);
}

// For x <= 20. log(1 + e) loses the low bits of a small e, so a series serves there.
fn log1p_exp(x: f32) -> f32 {
    let e = exp(min(x, 20.0));
    return select(log(1.0 + e), e * (1.0 - e * (0.5 - e * 0.33333334)), e < 0.01);
}
