//! How probable it is that samples differ by chance alone. Pure numbers.

use super::samples::Samples;

/// The smallest probability that so many samples can give: when all of one are above all of the other.
pub(super) fn least_chance(a: usize, b: usize) -> f64 {
    let ways: f64 = (1..=b).map(|i| (a + i) as f64 / i as f64).product();
    (2.0 / ways).min(1.0)
}

/// How probable it is by chance alone that samples of one source differ as much in their ranks, or more: the two-sided test
/// of Mann & Whitney (1947), exact for few samples, by the normal distribution for many.
pub(super) fn rank_sum(a: &Samples, b: &Samples) -> f64 {
    let (a, b) = (a.values(), b.values());
    let wins = |a: f64, b: f64| {
        if a > b {
            1.0
        } else if a < b {
            0.0
        } else {
            0.5
        }
    };
    let u: f64 = a.iter().flat_map(|&a| b.iter().map(move |&b| wins(a, b))).sum();
    let pairs = (a.len() * b.len()) as f64;
    let smaller = u.min(pairs - u);
    if a.len() + b.len() > 40 {
        let deviation = (pairs * (a.len() + b.len() + 1) as f64 / 12.0).sqrt();
        return two_sided((smaller - pairs / 2.0 + 0.5).min(0.0) / deviation);
    }
    let ways = ways(a.len(), b.len());
    let all: f64 = ways.iter().sum();
    // Half a win is a tie: it counts for neither.
    let as_far: f64 = ways.iter().take(smaller.ceil() as usize + 1).sum();
    (2.0 * as_far / all).min(1.0)
}

/// The smallest probability that so many pairs can give: when all differ the same way.
pub(super) fn least_of_pairs(count: usize) -> f64 {
    (2.0 * 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX))).min(1.0)
}

/// How probable it is by chance alone that pairs differ as much one way, or more: the two-sided test of Wilcoxon (1945), exact
/// for few pairs, by the normal distribution for many. Pairs that do not differ are left out, as he did.
pub(super) fn signed_ranks(differences: &[f64]) -> f64 {
    let mut sorted: Vec<f64> = differences.iter().copied().filter(|difference| *difference != 0.0).collect();
    sorted.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let count = sorted.len();
    let positive: f64 =
        (1..=count).zip(&sorted).filter(|(_, value)| **value > 0.0).map(|(rank, _)| rank as f64).sum();
    let all = (count * (count + 1)) as f64 / 2.0;
    let smaller = positive.min(all - positive);
    if count > 40 {
        let deviation = (all * (2 * count + 1) as f64 / 12.0).sqrt();
        return two_sided((smaller - all / 2.0 + 0.5).min(0.0) / deviation);
    }
    // In how many of all signs the positive ranks add up to each sum.
    let mut ways = vec![0.0; all as usize + 1];
    ways[0] = 1.0;
    for rank in 1..=count {
        for sum in (rank..ways.len()).rev() {
            ways[sum] += ways[sum - rank];
        }
    }
    let as_far: f64 = ways.iter().take(smaller as usize + 1).sum();
    (2.0 * as_far / 2.0_f64.powi(count as i32)).min(1.0)
}

/// In how many orders of `a` and `b` samples each sum of wins comes about.
fn ways(a: usize, b: usize) -> Vec<f64> {
    // By the last in the order: where it is one of `a`, it wins over all of `b`.
    let mut table = vec![vec![Vec::new(); b + 1]; a + 1];
    for i in 0..=a {
        for j in 0..=b {
            let mut sums = vec![0.0; i * j + 1];
            if i == 0 || j == 0 {
                sums[0] = 1.0;
            } else {
                let with_a: &Vec<f64> = &table[i - 1][j];
                with_a.iter().enumerate().for_each(|(wins, ways)| sums[wins + j] += ways);
                let with_b: &Vec<f64> = &table[i][j - 1];
                with_b.iter().enumerate().for_each(|(wins, ways)| sums[wins] += ways);
            }
            table[i][j] = sums;
        }
    }
    std::mem::take(&mut table[a][b])
}

/// The part of a normal distribution beyond `z` on both sides (Abramowitz & Stegun 1964, 26.2.17).
fn two_sided(z: f64) -> f64 {
    let z = z.abs();
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let series = t
        * (0.319_381_53
            + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    (2.0 * (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt() * series).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_are_those_of_the_tables() {
        // Two-sided, as R's wilcox.test has them.
        for (a, b, expected) in [
            (&[1.0, 2.0, 3.0, 4.0, 5.0][..], &[6.0, 7.0, 8.0, 9.0, 10.0][..], 2.0 / 252.0),
            (&[1.0, 2.0, 3.0][..], &[4.0, 5.0, 6.0][..], 0.1),
            (&[1.0, 3.0, 5.0, 7.0][..], &[2.0, 4.0, 6.0, 8.0][..], 0.685_714),
            (&[1.0, 2.0, 4.0, 7.0, 8.0][..], &[3.0, 5.0, 6.0, 9.0, 10.0, 11.0][..], 0.177_489),
        ] {
            let (a, b): (Samples, Samples) = (a.iter().copied().collect(), b.iter().copied().collect());
            for found in [rank_sum(&a, &b), rank_sum(&b, &a)] {
                assert!((found - expected).abs() < 1e-5, "{found} for {expected}");
            }
        }
        assert!((two_sided(1.959_964) - 0.05).abs() < 1e-6 && (two_sided(0.0) - 1.0).abs() < 1e-6);
        assert!((least_chance(5, 5) - 2.0 / 252.0).abs() < 1e-12);
    }

    #[test]
    fn signed_ranks_are_those_of_the_tables() {
        // Two-sided, as R's wilcox.test has them.
        for (differences, expected) in [
            (&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0][..], 2.0 / 256.0),
            (&[-1.0, 2.0, 3.0, 4.0, 5.0][..], 0.125),
            (&[1.0, -2.0, 3.0, -4.0, 5.0, -6.0][..], 0.84375),
            (&[0.0, 1.0][..], 1.0),
        ] {
            let mirrored: Vec<f64> = differences.iter().map(|difference| -difference).collect();
            for found in [signed_ranks(differences), signed_ranks(&mirrored)] {
                assert!((found - expected).abs() < 1e-9, "{found} for {expected}");
            }
        }
        let many: Vec<f64> = (1..=60).map(f64::from).collect();
        assert!(signed_ranks(&many) < 1e-9);
    }
}
