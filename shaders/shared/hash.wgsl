// PCG-RXS-M-XS, as a hash: Jarzynski & Olano 2020, jcgt.org/published/0009/03/02.

fn hash(x: u32) -> u32 {
    let state = x * 747796405u + 2891336453u;
    let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
    return (word >> 22u) ^ word;
}
