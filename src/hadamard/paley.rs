//! Paley's matrices, from the squares of a finite field. Elements of GF(p^k) are integers whose base-p digits
//! are the coefficients of a polynomial.

/// Which construction, and over which field.
#[derive(Clone, Copy)]
enum Kind {
    /// Order `q + 1`, `q = 3 mod 4`.
    First(Field),
    /// Order `2 (q + 1)`, `q = 1 mod 4`.
    Second(Field),
}

#[derive(Clone, Copy)]
struct Field {
    p: usize,
    q: usize,
}

fn kind(order: usize) -> Option<Kind> {
    let field = |q: usize| prime_of_power(q).map(|p| Field { p, q });
    let first = (order >= 4 && order.is_multiple_of(4)).then(|| field(order - 1)).flatten();
    // order / 2 - 1 is even where order / 2 is odd.
    let second = || (order >= 12 && order % 8 == 4).then(|| field(order / 2 - 1)).flatten();
    first.map(Kind::First).or_else(|| second().map(Kind::Second))
}

/// Is there a Paley matrix of this order?
pub(super) fn exists(order: usize) -> bool {
    kind(order).is_some()
}

/// The ±1 matrix, row-major; the first construction where both give one.
///
/// First: `I + S`, `S = [0 1; -1 Q]`. Second: `S ⊗ [1 1; 1 -1] + I ⊗ [1 -1; -1 -1]`, `S = [0 1; 1 Q]`.
/// `Q[a, b]` is 1 where `a - b` is a square, else -1, and 0 on the diagonal.
pub(super) fn matrix(order: usize) -> Option<Vec<i8>> {
    let (field, border) = match kind(order)? {
        Kind::First(f) => (f, -1),
        Kind::Second(f) => (f, 1),
    };
    let (n, chi) = (field.q + 1, field.characters()?);
    let s = |row: usize, col: usize| match (row, col) {
        (0, 0) => 0,
        (0, _) => 1,
        (_, 0) => border,
        (a, b) => chi[field.difference(a - 1, b - 1)],
    };
    if border == -1 {
        return Some((0..n * n).map(|i| s(i / n, i % n) + i8::from(i / n == i % n)).collect());
    }
    let element = |row: usize, col: usize| {
        let (a, b) = (row / 2, col / 2);
        let (conference, diagonal) = match (row % 2, col % 2) {
            (0, 0) => (1, 1),
            (1, 1) => (-1, -1),
            _ => (1, -1),
        };
        if a == b { diagonal } else { conference * s(a, b) }
    };
    Some((0..order * order).map(|i| element(i / order, i % order)).collect())
}

/// `p` when `q` is a power of a prime `p`.
fn prime_of_power(q: usize) -> Option<usize> {
    let p = (2..).take_while(|p| p * p <= q).find(|p| q.is_multiple_of(*p)).unwrap_or(q);
    let mut rest = q;
    while rest > 1 && rest.is_multiple_of(p) {
        rest /= p;
    }
    (q > 1 && rest == 1).then_some(p)
}

impl Field {
    /// Combines the digits of two elements.
    fn digits(self, a: usize, b: usize, f: impl Fn(usize, usize) -> usize) -> usize {
        let (mut out, mut place) = (0, 1);
        while place < self.q {
            out += f(a / place % self.p, b / place % self.p) % self.p * place;
            place *= self.p;
        }
        out
    }

    fn difference(self, a: usize, b: usize) -> usize {
        self.digits(a, b, |a, b| a + self.p - b)
    }

    /// 1 for squares, -1 for other elements, 0 for zero.
    ///
    /// Where the powers of the polynomial `x` modulo `x^k + low` return to 1 after `q - 1` steps and not before,
    /// they are all elements but zero, and the even ones are the squares. Some `low` does that in every field.
    fn characters(self) -> Option<Vec<i8>> {
        let top = self.q / self.p;
        (1..self.q).find_map(|low| {
            let mut chi = vec![0; self.q];
            let (mut power, mut sign) = (1, 1);
            for step in 1..self.q {
                chi[power] = sign;
                sign = -sign;
                let leading = self.p - power / top;
                power = self.digits(power % top * self.p, low, |s, l| s + leading * l);
                if power == 1 {
                    return (step == self.q - 1).then_some(chi);
                }
            }
            None
        })
    }
}
