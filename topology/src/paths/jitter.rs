//! What the jitters of a path's links are together.
//!
//! Delays on different links vary independently, so the 95th percentiles above their floors add in
//! quadrature: a path's is √(Σ j²). That is no sum over links, which the search needs. But it is at
//! least half their sum: over n links √(Σ j²) ≥ Σ j / √n, and no path has more than four. So the
//! search adds up *bounds*, each link with half its jitter, and what a whole path costs *beyond* its
//! bound is added before it is compared.
//!
//! Where two halves meet a closer bound is at hand, since √(s² + t²) ≥ (s + t) / √2: that of a half is
//! its jitter by √2. It is what a path costs if both halves are equally unsteady.

use std::f64::consts::FRAC_1_SQRT_2;

use super::MAX_INTERMEDIATES;

const _: () = assert!(
    MAX_INTERMEDIATES < 4,
    "half of the sum is a bound for four links"
);

/// Of a link: the part of its jitter (µs) that is in its bound.
pub(super) fn bound(jitter_us: i32) -> i32 {
    jitter_us / 2
}

/// Along a path.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Jitters {
    squares: u64,
    bounds: i32,
}

impl Jitters {
    /// Over one link more, of this jitter in µs.
    pub fn and(self, jitter_us: i32) -> Jitters {
        Jitters {
            squares: self.squares + u64::from(jitter_us.unsigned_abs()).pow(2),
            bounds: self.bounds + bound(jitter_us),
        }
    }

    /// By how much it exceeds what is in the links' bounds, in µs.
    pub fn beyond(self) -> i32 {
        root(self.squares) as i32 - self.bounds
    }

    /// Of half a path: by how much the closer bound exceeds what is in the links' bounds, in µs.
    pub fn beyond_as_half(self) -> i32 {
        (root(self.squares) * FRAC_1_SQRT_2) as i32 - self.bounds
    }
}

/// Exact: squares are below 2^53 (no link's jitter is above 8 s).
fn root(squares: u64) -> f64 {
    (squares as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paths_jitter_is_never_below_its_bounds() {
        let over = |jitters: &[i32]| {
            let all = jitters
                .iter()
                .fold(Jitters::default(), |sum, j| sum.and(*j));
            let bounds: i32 = jitters.iter().map(|j| bound(*j)).sum();
            (all.beyond(), all.beyond() + bounds)
        };
        assert_eq!(over(&[]), (0, 0));
        assert_eq!(over(&[5]), (3, 5));
        assert_eq!(over(&[3_000, 4_000]), (1_500, 5_000));
        // Four alike are where the bound is tight.
        assert_eq!(over(&[2_001; 4]), (2, 4_002));
        assert_eq!(over(&[0, 0, 0, 9]), (5, 9));
    }

    #[test]
    fn what_two_halves_are_bounded_by_is_never_above_what_they_are() {
        let sum = |jitters: &[i32]| {
            jitters
                .iter()
                .fold(Jitters::default(), |sum, j| sum.and(*j))
        };
        let bounds = |jitters: &[i32]| jitters.iter().map(|j| bound(*j)).sum::<i32>();
        for (head, tail) in [
            (&[4_000, 1][..], &[0, 7_777][..]),
            (&[9], &[9]),
            (&[3_000, 3_000], &[1_000, 4_123]),
            (&[0], &[8_000_000, 8_000_000]),
        ] {
            let whole = [head, tail].concat();
            let half = |jitters: &[i32]| sum(jitters).beyond_as_half() + bounds(jitters);
            let all = sum(&whole).beyond() + bounds(&whole);
            assert!(half(head) + half(tail) <= all, "{head:?} {tail:?}");
            assert!(half(head) >= bounds(head) && half(tail) >= bounds(tail));
        }
        // Equally unsteady halves: the bound is what they are.
        assert_eq!(sum(&[3_000, 4_000]).beyond_as_half() + 3_500, 3_535);
        assert_eq!(sum(&[3_000, 4_000, 5_000]).beyond() + 6_000, 7_071);
    }
}
