use super::*;

/// Every order below 600 that has a Paley matrix, fields of prime powers among them (27, 25, 49, 289 …).
#[test]
fn paley_matrices_are_hadamard() {
    let orders: Vec<usize> = (4..600).filter(|n| paley::exists(*n)).collect();
    for order in [12, 20, 28, 36, 52, 60, 84, 100, 108, 140, 196, 464, 580] {
        assert!(orders.contains(&order), "{order}");
    }
    for order in orders {
        assert_hadamard(order, &paley::matrix(order).unwrap());
    }
}

#[test]
fn products_are_hadamard() {
    for order in [1, 2, 4, 8, 64, 24, 40, 168, 336, 672, 784, 1344] {
        assert_hadamard(order, &order_matrix(order).unwrap());
    }
}

#[test]
fn other_orders_have_none() {
    for order in [0, 3, 6, 10, 21, 92, 172, 85] {
        assert_eq!(order_matrix(order), None, "{order}");
    }
    assert_eq!(order_matrix(1 << 40), None, "2^80 elements");
}

/// `H Hᵀ = n I` in integers, rows as bit sets.
fn assert_hadamard(order: usize, matrix: &[i8]) {
    assert_eq!(matrix.len(), order * order);
    assert!(matrix.iter().all(|v| v.abs() == 1), "order {order} has an element that is not 1 or -1");
    let rows: Vec<Vec<u64>> = matrix
        .chunks(order)
        .map(|row| row.chunks(64).map(|c| c.iter().rev().fold(0, |word, v| word << 1 | u64::from(*v < 0))).collect())
        .collect();
    for (i, a) in rows.iter().enumerate() {
        for (j, b) in rows[..i].iter().enumerate() {
            let differ: u32 = a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum();
            assert_eq!(2 * differ as usize, order, "order {order}: rows {i} and {j} are not orthogonal");
        }
    }
}

/// The sizes of the Nemotron-H family and of the test models.
#[test]
fn factors_of_model_sizes() {
    let sizes: [(usize, &[usize], usize); 29] = [
        (1, &[], 1),
        (2, &[], 2),
        (512, &[], 512),
        (1024, &[], 1024),
        (4096, &[], 4096),
        (8192, &[], 8192),
        (32768, &[], 32768),
        (21504, &[84], 256),
        (30720, &[60], 512),
        (12288, &[12], 1024),
        (3072, &[12], 256),
        (1536, &[12], 128),
        (7168, &[28], 256),
        (4480, &[140], 32),
        (15680, &[28, 140], 4),
        (5120, &[20], 256),
        (10240, &[20], 512),
        (20480, &[20], 1024),
        (2688, &[84], 32),
        (1344, &[84], 16),
        (672, &[84], 8),
        (1856, &[464], 4),
        (3712, &[464], 8),
        (7680, &[60], 128),
        (3136, &[196], 16),
        (12544, &[196], 64),
        (12, &[12], 1),
        (40, &[20], 2),
        (18560, &[580], 32),
    ];
    for (n, dense, pow2) in sizes {
        assert_eq!(factor(n), Some(Factors { dense: dense.to_vec(), pow2 }), "{n}");
    }
}

fn sample(count: usize) -> Vec<f64> {
    (0..count).map(|i| ((i * 7919 + 13) % 1009) as f64 / 504.5 - 1.0).collect()
}

fn assert_near(got: &[f64], want: &[f64]) {
    let worst = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-12, "{worst:e}");
}

#[test]
fn transform_is_the_matrix() {
    for block in [1, 2, 8, 12, 24, 84, 168, 336, 672] {
        let x = sample(3 * block);
        let m = order_matrix(block).unwrap();
        let want: Vec<f64> = x
            .chunks(block)
            .flat_map(|x| {
                m.chunks(block).map(move |row| row.iter().zip(x).map(|(h, x)| f64::from(*h) * x).sum::<f64>())
            })
            .map(|y| y / (block as f64).sqrt())
            .collect();
        let mut got = x.clone();
        transform(block, &mut got).unwrap();
        assert_near(&got, &want);
    }
}

#[test]
fn transposed_transform_is_the_inverse() {
    for block in [1, 4, 12, 1344, 15680, 21504] {
        let x = sample(2 * block);
        let mut y = x.clone();
        transform(block, &mut y).unwrap();
        let norm = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>();
        assert!((norm(&x) / norm(&y) - 1.0).abs() < 1e-12, "{block} changes the norm");
        transform_transposed(block, &mut y).unwrap();
        assert_near(&y, &x);
    }
}

#[test]
fn rejects_blocks_without_construction_or_that_do_not_divide() {
    let mut x = sample(184);
    assert!(transform(92, &mut x).unwrap_err().to_string().starts_with("hadamard block 92: there is no construction"));
    assert_eq!(transform(16, &mut x).unwrap_err().to_string(), "hadamard block 16: it does not divide 184");
    assert!(transform(0, &mut x).is_err());
    assert_eq!(x, sample(184), "a refused transform leaves the values as they were");
}
