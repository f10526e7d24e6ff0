//! Averages with their confidence intervals, and trends, from sums.

use std::ops::AddAssign;

/// Sums over a set of articles.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// Number of articles.
    pub articles: i64,
    /// Sum of the scores.
    pub sum: f64,
    /// Sum of their squares.
    pub squares: f64,
    /// Number of positive articles.
    pub positive: i64,
    /// Number of neutral articles.
    pub neutral: i64,
    /// Number of negative articles.
    pub negative: i64,
    /// Number of articles without a score.
    pub abstained: i64,
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        self.articles += other.articles;
        self.sum += other.sum;
        self.squares += other.squares;
        self.positive += other.positive;
        self.neutral += other.neutral;
        self.negative += other.negative;
        self.abstained += other.abstained;
    }
}

impl Sums {
    /// Number of articles with a score.
    pub fn scored(&self) -> i64 {
        self.articles - self.abstained
    }

    /// Average score; none when nothing was scored.
    pub fn average(&self) -> Option<f64> {
        (self.scored() > 0).then(|| self.sum / float(self.scored()))
    }

    /// 95 % confidence interval of the average by Student's t, cut to -1..1; none with fewer than two scores.
    pub fn interval(&self) -> Option<(f64, f64)> {
        let n = self.scored();
        let average = self.average()?;
        if n < 2 {
            return None;
        }
        // Rounding may leave a tiny negative remainder where all scores are equal.
        let variance = ((self.squares - self.sum * average) / float(n - 1)).max(0.0);
        let margin = student_t_975(n - 1) * (variance / float(n)).sqrt();
        Some(((average - margin).max(-1.0), (average + margin).min(1.0)))
    }
}

/// Slope of `(x, average, weight)` by weighted least squares, in score a unit of x; none with fewer than two different x.
pub fn slope(points: impl Iterator<Item = (f64, f64, f64)> + Clone) -> Option<f64> {
    let (mut weight, mut mean_x, mut mean_y) = (0.0, 0.0, 0.0);
    for (x, y, w) in points.clone() {
        weight += w;
        mean_x += w * x;
        mean_y += w * y;
    }
    if weight <= 0.0 {
        return None;
    }
    mean_x /= weight;
    mean_y /= weight;
    let (mut covariance, mut variance) = (0.0, 0.0);
    for (x, y, w) in points {
        covariance += w * (x - mean_x) * (y - mean_y);
        variance += w * (x - mean_x) * (x - mean_x);
    }
    (variance > 0.0).then(|| covariance / variance)
}

/// The 97.5th percentile of Student's t: a table to 30 degrees of freedom, then the Cornish-Fisher expansion (exact to 1e-4 there).
fn student_t_975(degrees: i64) -> f64 {
    const TABLE: [f64; 30] = [
        12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788,
        2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687, 2.0639,
        2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
    ];
    const Z: f64 = 1.959_964;
    match usize::try_from(degrees - 1).ok().and_then(|index| TABLE.get(index)) {
        Some(value) => *value,
        None => {
            let v = float(degrees);
            let z3 = Z.powi(3);
            let z5 = Z.powi(5);
            Z + (z3 + Z) / (4.0 * v) + (5.0 * z5 + 16.0 * z3 + 3.0 * Z) / (96.0 * v * v)
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn float(n: i64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(scores: &[f64]) -> Sums {
        Sums {
            articles: i64::try_from(scores.len()).unwrap(),
            sum: scores.iter().sum(),
            squares: scores.iter().map(|score| score * score).sum(),
            ..Sums::default()
        }
    }

    #[test]
    fn the_interval_is_students() {
        // t(4, 0.975) = 2.7764; mean 0.3, standard deviation 0.158114
        let (low, high) = sums(&[0.1, 0.2, 0.3, 0.4, 0.5]).interval().unwrap();
        assert!((low - 0.103_68).abs() < 1e-4 && (high - 0.496_32).abs() < 1e-4, "{low} {high}");
    }

    #[test]
    fn nothing_scored_has_no_average() {
        let sums = Sums { articles: 3, abstained: 3, ..Sums::default() };
        assert_eq!((sums.average(), sums.interval()), (None, None));
    }

    #[test]
    fn one_score_has_no_interval() {
        assert_eq!(sums(&[0.5]).interval(), None);
        assert_eq!(sums(&[0.5]).average(), Some(0.5));
    }

    #[test]
    fn equal_scores_have_an_interval_of_no_width() {
        let (low, high) = sums(&[0.1, 0.1, 0.1]).interval().unwrap();
        assert!((high - low).abs() < 1e-7);
    }

    #[test]
    fn t_is_continuous_after_the_table() {
        assert!((student_t_975(31) - 2.0395).abs() < 2e-4);
        assert!((student_t_975(120) - 1.9799).abs() < 2e-4);
    }

    #[test]
    fn slope_follows_the_weights() {
        let points = [(0.0, 0.0, 1.0), (1.0, 0.1, 1.0), (2.0, 0.2, 5.0)];
        assert!((slope(points.into_iter()).unwrap() - 0.1).abs() < 1e-12);
        assert_eq!(slope([(1.0, 0.5, 2.0)].into_iter()), None);
    }
}
