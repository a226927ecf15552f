//! The KLT does what it promises, and the same on every machine.

use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use wgquant::hadamard;
use wgquant::transform::{Matrix, klt, klt_blocks, mean_covariance, order};

use super::{factors, orthogonal};

/// `Qᵀ diag(variances) Q`.
fn covariance(rng: &mut ChaCha8Rng, variances: &[f64]) -> Vec<f64> {
    let n = variances.len();
    let q = orthogonal(rng, n).transposed();
    let scaled: Vec<f64> = q.values().iter().enumerate().map(|(i, v)| v * variances[i % n]).collect();
    Matrix::new(n, n, scaled).unwrap().times_transposed(&q).values().to_vec()
}

/// `R C Rᵀ`.
fn rotated(r: &Matrix, c: &[f64]) -> Matrix {
    let n = r.cols();
    r.times_transposed(&Matrix::new(n, n, c.to_vec()).unwrap()).times_transposed(r)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Orders that are no multiples of the tasks' sizes, and eigenvalues that coincide.
    #[test]
    fn diagonalises(n in 1usize..80, seed in any::<u64>(), equal in 1usize..5) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut variances = factors(&mut rng, n.div_ceil(equal)).repeat(equal);
        variances.truncate(n);
        let c = covariance(&mut rng, &variances);
        let k = klt(&c, n).unwrap();
        prop_assert!(k.orthogonality_error() < 1e-12);
        variances.sort_by(|a, b| b.total_cmp(a));
        let d = rotated(&k, &c);
        for (i, v) in d.values().iter().enumerate() {
            let want = if i % (n + 1) == 0 { variances[i / n] } else { 0.0 };
            prop_assert!((v - want).abs() < 1e-11, "[{}, {}] is {v:e}, expected {want:e}", i / n, i % n);
        }
        for row in k.values().chunks_exact(n) {
            let largest = row.iter().fold(0.0f64, |m, v| if v.abs() > m.abs() { *v } else { m });
            prop_assert!(largest > 0.0);
        }
    }

    /// MambaQuant's equation 13: with a Hadamard transform behind it, every channel has the mean variance; a Hadamard
    /// transform alone leaves them apart.
    #[test]
    fn evens_out_variances(n in prop::sample::select(vec![8usize, 12, 20, 32, 60, 84]), seed in any::<u64>()) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let variances = factors(&mut rng, n);
        let c = covariance(&mut rng, &variances);
        let mean = variances.iter().sum::<f64>() / n as f64;
        let h = hadamard::Transform::new(n).unwrap();
        // Columns of R, turned.
        let spread = |mut columns: Matrix| {
            columns.values_mut().chunks_exact_mut(n).for_each(|column| h.apply(column));
            let d = rotated(&columns.transposed(), &c);
            let variances = (0..n).map(|i| (d.values()[i * n + i] / mean - 1.0).abs());
            variances.fold(0.0, f64::max)
        };
        prop_assert!(spread(klt(&c, n).unwrap().transposed()) < 1e-10);
        prop_assert!(spread(Matrix::identity(n)) > 1e-4);
    }

    #[test]
    fn balances_mass(blocks in 1usize..9, block in 1usize..9, seed in any::<u64>()) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mass = factors(&mut rng, blocks * block);
        let from = order::balance(&mass, block).unwrap();
        let mut sorted = from.clone();
        sorted.sort_unstable();
        prop_assert_eq!(sorted, (0..mass.len()).collect::<Vec<_>>());
        let sums: Vec<f64> = from.chunks_exact(block).map(|b| b.iter().map(|c| mass[*c]).sum()).collect();
        let (low, high) = sums.iter().fold((f64::INFINITY, 0.0f64), |(l, h), s| (l.min(*s), h.max(*s)));
        // The lightest block with room takes the next: no two end further apart than one channel and what room left.
        prop_assert!(high - low <= 2.0 * mass.iter().fold(0.0, |m: f64, v| m.max(*v)), "{low} to {high}");
    }
}

/// Bits, not numbers close by: a checkpoint must not depend on the machine.
#[test]
fn gives_these_bits() {
    let n = 67;
    let value = |i: usize, j: usize| 1.0 / (1.0 + i as f64 + j as f64) + if i == j { (i % 5) as f64 } else { 0.0 };
    let c: Vec<f64> = (0..n * n).map(|i| value(i / n, i % n)).collect();
    let k = klt(&c, n).unwrap();
    let hash = k.values().iter().fold(0u64, |h, v| h.rotate_left(5) ^ v.to_bits().wrapping_mul(0x9e37_79b9_7f4a_7c15));
    assert_eq!(hash, 0x6d8e_90e9_bb9d_c56c, "{hash:#018x}");
    let single = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert!(single.install(|| klt(&c, n).unwrap()) == k);
}

#[test]
fn refuses_what_is_no_covariance() {
    let fails = |c: &[f64], n| klt(c, n).unwrap_err().to_string();
    assert!(fails(&[1.0, 2.0], 2).contains("2 values for [2, 2]"));
    assert!(fails(&[1.0, 0.5, -0.5, 1.0], 2).contains("[1, 0] is -5e-1, [0, 1] 5e-1"));
    assert!(fails(&[f64::NAN, 0.0, 0.0, 1.0], 2).contains("not finite"));
    // Sizes of which there is no product.
    assert!(fails(&[], 1 << 33).contains("0 values for [8589934592, 8589934592]"));
    assert!(klt_blocks(&[], 1 << 33, 1 << 32).is_err() && mean_covariance([(1.0, &[][..])], 1 << 33).is_err());
    assert!(klt_blocks(&[1.0; 16], 4, 3).unwrap_err().to_string().contains("blocks of 3 in 4"));
    assert!(mean_covariance([], 2).unwrap_err().to_string().contains("no covariance of any weight"));
    assert!(mean_covariance([(f64::NAN, &[1.0; 4][..])], 2).is_err());
}

#[test]
#[should_panic(expected = "an identity of order 8589934592")]
fn an_identity_of_more_elements_than_can_be_counted() {
    let _ = Matrix::identity(1 << 33);
}

#[test]
fn blocks_and_means() {
    let c = [4.0, 1.0, 9.0, 9.0, 1.0, 4.0, 9.0, 9.0, 9.0, 9.0, 1.0, 0.0, 9.0, 9.0, 0.0, 2.0];
    let blocks = klt_blocks(&c, 4, 2).unwrap();
    let half = 0.5f64.sqrt();
    assert!(blocks[0].values().iter().zip([half, half, half, -half]).all(|(a, b)| (a.abs() - b.abs()).abs() < 1e-15));
    assert_eq!(blocks[1].values(), [0.0, 1.0, 1.0, 0.0]);
    // Traces 2 and 20, weights 1 and 3.
    let mean = mean_covariance([(1.0, &[2.0, 0.0, 0.0, 0.0][..]), (3.0, &[10.0, 5.0, 5.0, 10.0][..])], 2).unwrap();
    let want = [0.25 + 0.375, 0.1875, 0.1875, 0.375];
    assert!(mean.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-15), "{mean:?}");
}
