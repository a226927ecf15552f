//! Rows of a weight as lines of its columns, and back. Memory comes in runs of some 64 bytes, so a few lines or rows are
//! made together, each group on a core of its own.

use std::ops::Range;

use rayon::prelude::*;

/// Lines or rows that are made together.
const TOGETHER: usize = 32;

/// Numbers of a core's share that others are added to at a time.
const SHARE: usize = 32;

/// `[n, rows]`, whose line i is of column `order[i]`, of a matrix `[rows, n]`; `fill` gives these columns of a row.
pub(super) fn lines_of<T: Copy + Default + Send + Sync>(
    rows: usize,
    order: &[usize],
    fill: impl Fn(usize, Range<usize>, &mut [T]) + Sync,
) -> Vec<T> {
    let mut out = vec![T::default(); rows * order.len()];
    let mut places = vec![0; order.len()];
    order.iter().enumerate().for_each(|(line, column)| places[*column] = line);
    let mut lines: Vec<Option<&mut [T]>> = out.chunks_exact_mut(rows.max(1)).map(Some).collect();
    let mut by_column: Vec<&mut [T]> = places.iter().filter_map(|line| lines.get_mut(*line)?.take()).collect();
    by_column.par_chunks_mut(TOGETHER).enumerate().for_each(|(block, lines)| {
        let first = block * TOGETHER;
        let mut part = [T::default(); TOGETHER];
        for r in 0..rows {
            fill(r, first..first + lines.len(), &mut part[..lines.len()]);
            lines.iter_mut().zip(part).for_each(|(line, value)| line[r] = value);
        }
    });
    out
}

/// The same of a matrix that is there.
pub(super) fn turned<T: Copy + Default + Send + Sync>(x: &[T], order: &[usize]) -> Vec<T> {
    let n = order.len().max(1);
    lines_of(x.len() / n, order, |r, columns, part| part.copy_from_slice(&x[r * n..][columns]))
}

/// The inverse of [`turned`].
pub(super) fn rows_of<T: Copy + Default + Send + Sync>(lines: &[T], order: &[usize]) -> Vec<T> {
    let n = order.len().max(1);
    let rows = lines.len() / n;
    let mut out = vec![T::default(); lines.len()];
    out.par_chunks_mut(TOGETHER * n).enumerate().for_each(|(block, part)| {
        let (first, count) = (block * TOGETHER, part.len() / n);
        for (line, column) in lines.chunks_exact(rows.max(1)).zip(order) {
            line[first..first + count].iter().enumerate().for_each(|(r, value)| part[r * n + column] = *value);
        }
    });
    out
}

/// Of two matrices `[n, rows]` the sums of products of each column, in the order of lines.
pub(super) fn column_products(x: &[f32], y: &[f32], rows: usize) -> Vec<f64> {
    let mut sums = vec![0f64; rows];
    sums.par_chunks_mut(SHARE).enumerate().for_each(|(block, sums)| {
        let part = block * SHARE..block * SHARE + sums.len();
        for (x, y) in x.chunks_exact(rows).zip(y.chunks_exact(rows)) {
            let both = x[part.clone()].iter().zip(&y[part.clone()]);
            sums.iter_mut().zip(both).for_each(|(s, (x, y))| *s += f64::from(*x) * f64::from(*y));
        }
    });
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_rows_are_inverse() {
        for (rows, n) in [(1, 1), (3, 70), (70, 3), (33, 65)] {
            let x: Vec<usize> = (0..rows * n).collect();
            let (there, back): (Vec<usize>, Vec<usize>) = (0..n).map(|i| (i, n - 1 - i)).unzip();
            let lines = turned(&x, &there);
            assert!((0..rows * n).all(|e| lines[e] == e % rows * n + e / rows), "{rows} x {n}");
            assert_eq!(rows_of(&lines, &there), x);
            assert_eq!(rows_of(&turned(&x, &back), &back), x);
            let mirrored: Vec<usize> =
                x.chunks(n).flat_map(|row| row.iter().rev().copied().collect::<Vec<_>>()).collect();
            assert_eq!(rows_of(&lines, &back), mirrored);
        }
    }

    #[test]
    fn products_of_columns() {
        let rows = 70;
        let x: Vec<f32> = (0..3 * rows).map(|i| i as f32).collect();
        let want = |r: usize| (0..3).map(|i| f64::from(x[i * rows + r]).powi(2)).sum::<f64>();
        assert_eq!(column_products(&x, &x, rows), (0..rows).map(want).collect::<Vec<_>>());
    }
}
