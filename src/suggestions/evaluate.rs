//! What the evidence speaks for: a pure function from counts to a decision and its reasons. `docs/KEYWORDS.md` explains the formulas.

use serde::{Deserialize, Serialize};

/// The numbers by which suggestions are judged; the table `[suggestions]` of `euhub.toml` changes them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Thresholds {
    /// Days of the archive that are looked at.
    pub window_days: u16,
    /// Matching articles from which searchability is 100.
    pub full_article_count: u32,
    /// Outlets from which the outlets' part of significance is full; fewer where fewer are active.
    pub full_source_count: u32,
    /// Countries from which the countries' part of significance is full; fewer where fewer are active.
    pub full_country_count: u32,
    /// The outlets' part of significance, 0 to 1; the countries have the rest.
    pub source_weight: f64,
    /// Share of the archive above which a term is too broad.
    pub broad_share: f64,
    /// Share of the archive below which a term is too specific.
    pub specific_share: f64,
    /// Matching articles below which a term is too specific, whatever their share.
    pub specific_article_count: u32,
    /// Searchability from which a suggestion may be approved.
    pub approve_searchability: u8,
    /// Significance from which a suggestion may be approved.
    pub approve_significance: u8,
    /// Searchability below which a suggestion should be rejected.
    pub reject_searchability: u8,
    /// Cosine from which a keyword means the same.
    pub merge_similarity: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            window_days: 30,
            full_article_count: 100,
            full_source_count: 10,
            full_country_count: 5,
            source_weight: 0.6,
            broad_share: 0.2,
            specific_share: 0.001,
            specific_article_count: 3,
            approve_searchability: 40,
            approve_significance: 50,
            reject_searchability: 20,
            merge_similarity: 0.85,
        }
    }
}

/// What was counted in the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Articles.
    pub archive: i64,
    /// Articles that match.
    pub articles: i64,
    /// Outlets of those that match.
    pub sources: i64,
    /// Countries of those that match.
    pub countries: i64,
    /// Outlets of all.
    pub active_sources: i64,
    /// Countries of all.
    pub active_countries: i64,
}

/// A keyword near in meaning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Similar {
    /// Its slug.
    pub slug: String,
    /// Its name for people.
    pub display_name: String,
    /// Cosine, -1 to 1.
    pub similarity: f64,
}

/// What a share of the archive means; numbered as stored and in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breadth {
    /// It says little.
    TooBroad = 1,
    /// A topic.
    Optimal = 2,
    /// Nothing can be seen.
    TooSpecific = 3,
}

/// What the evidence speaks for; numbered as stored and in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Covered widely enough.
    Approve = 1,
    /// A person should look.
    NeedsReview = 2,
    /// Hardly covered.
    Reject = 3,
    /// A keyword for it exists.
    Merge = 4,
}

/// The evidence and what it speaks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// How much there is to find, 0 to 100.
    pub searchability: i32,
    /// How widely it is covered, 0 to 100.
    pub significance: i32,
    /// Matching articles of all, 0 to 1.
    pub share: f64,
    /// What the share means.
    pub breadth: Breadth,
    /// What it speaks for.
    pub decision: Decision,
    /// Why, in words with the numbers.
    pub reasons: Vec<String>,
}

/// Judges counts and the nearest keywords (the nearest first; none when there was no model to compare by).
pub fn evaluate(counts: &Counts, similar: Option<&[Similar]>, limits: &Thresholds) -> Verdict {
    let searchability = searchability(counts.articles, limits);
    let significance = significance(counts, limits);
    let share = ratio(counts.articles, counts.archive);
    let breadth = breadth(counts.articles, share, limits);
    let nearest = similar.and_then(<[Similar]>::first);
    let same = nearest.is_some_and(|nearest| nearest.similarity >= limits.merge_similarity);
    let decision = if same {
        Decision::Merge
    } else if counts.archive == 0 {
        Decision::NeedsReview
    } else if searchability < i32::from(limits.reject_searchability) {
        Decision::Reject
    } else if breadth == Breadth::Optimal
        && searchability >= i32::from(limits.approve_searchability)
        && significance >= i32::from(limits.approve_significance)
    {
        Decision::Approve
    } else {
        Decision::NeedsReview
    };
    let mut verdict = Verdict { searchability, significance, share, breadth, decision, reasons: Vec::new() };
    verdict.reasons = reasons(&verdict, counts, similar, limits);
    verdict
}

/// 100 · ln(1 + articles) / ln(1 + full), at most 100: the first articles tell the most.
fn searchability(articles: i64, limits: &Thresholds) -> i32 {
    percent(float(articles).ln_1p() / f64::from(limits.full_article_count.max(1)).ln_1p())
}

/// The share of the outlets and of the countries that would be enough, weighted.
fn significance(counts: &Counts, limits: &Thresholds) -> i32 {
    let part = |found: i64, active: i64, full: u32| ratio(found, active.min(i64::from(full)).max(1)).min(1.0);
    let sources = part(counts.sources, counts.active_sources, limits.full_source_count);
    let countries = part(counts.countries, counts.active_countries, limits.full_country_count);
    percent(limits.source_weight * sources + (1.0 - limits.source_weight) * countries)
}

fn breadth(articles: i64, share: f64, limits: &Thresholds) -> Breadth {
    if articles < i64::from(limits.specific_article_count) || share < limits.specific_share {
        Breadth::TooSpecific
    } else if share > limits.broad_share {
        Breadth::TooBroad
    } else {
        Breadth::Optimal
    }
}

fn reasons(
    verdict: &Verdict,
    counts: &Counts,
    similar: Option<&[Similar]>,
    limits: &Thresholds,
) -> Vec<String> {
    let days = limits.window_days;
    let nearest = match (similar, similar.and_then(<[Similar]>::first)) {
        (None, _) => "No embedding model is loaded, so no keyword was compared by meaning.".to_owned(),
        (_, None) => "There is no keyword to compare it with.".to_owned(),
        (_, Some(Similar { slug, similarity, .. })) => {
            let means =
                if *similarity >= limits.merge_similarity { "means the same" } else { "is another topic" };
            format!(
                "The nearest keyword, keywords/{slug}, {means}: similarity {similarity:.2}, the same from {:.2}.",
                limits.merge_similarity
            )
        }
    };
    if counts.archive == 0 {
        return vec![format!("The archive has no article of the last {days} days to judge by."), nearest];
    }
    let meaning = match verdict.breadth {
        Breadth::TooBroad => "too broad",
        Breadth::Optimal => "optimal",
        Breadth::TooSpecific => "too specific",
    };
    vec![
        format!(
            "{} of {} articles of the last {days} days match: searchability {} (approve from {}, reject below {}).",
            counts.articles,
            counts.archive,
            verdict.searchability,
            limits.approve_searchability,
            limits.reject_searchability
        ),
        format!(
            "They come from {} of {} outlets and {} of {} countries: significance {} (approve from {}).",
            counts.sources,
            counts.active_sources,
            counts.countries,
            counts.active_countries,
            verdict.significance,
            limits.approve_significance
        ),
        format!(
            "A share of {:.2} % is {meaning} (optimal: {:.2} % to {:.2} %, and at least {} articles).",
            verdict.share * 100.0,
            limits.specific_share * 100.0,
            limits.broad_share * 100.0,
            limits.specific_article_count
        ),
        nearest,
    ]
}

fn percent(share: f64) -> i32 {
    #[allow(clippy::cast_possible_truncation, reason = "clamped to 0 to 100")]
    let percent = (share * 100.0).round().clamp(0.0, 100.0) as i32;
    percent
}

fn ratio(part: i64, whole: i64) -> f64 {
    if whole == 0 { 0.0 } else { float(part) / float(whole) }
}

#[allow(clippy::cast_precision_loss, reason = "counts of articles stay far below 2^52")]
fn float(n: i64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: fn() -> Thresholds = Thresholds::default;

    fn counts(archive: i64, articles: i64, sources: i64, countries: i64) -> Counts {
        Counts { archive, articles, sources, countries, active_sources: 12, active_countries: 8 }
    }

    fn near(similarity: f64) -> [Similar; 1] {
        [Similar { slug: "energy-prices".into(), display_name: "Energy prices".into(), similarity }]
    }

    fn decide(counts: Counts, similarity: f64) -> Decision {
        evaluate(&counts, Some(&near(similarity)), &LIMITS()).decision
    }

    #[test]
    fn decisions_follow_the_evidence() {
        let table = [
            (counts(2000, 40, 6, 4), 0.5, Decision::Approve),
            (counts(2000, 40, 6, 4), 0.85, Decision::Merge),
            (counts(2000, 40, 6, 4), 0.849, Decision::Approve),
            (counts(2000, 0, 0, 0), 0.9, Decision::Merge),
            (counts(2000, 0, 0, 0), 0.5, Decision::Reject),
            // One article: searchability 15; two: 24.
            (counts(2000, 1, 1, 1), 0.5, Decision::Reject),
            (counts(2000, 2, 2, 2), 0.5, Decision::NeedsReview),
            // Widely covered, but by one outlet.
            (counts(2000, 40, 1, 1), 0.5, Decision::NeedsReview),
            // A fifth of the archive is a topic yet, more is not.
            (counts(200, 40, 6, 4), 0.5, Decision::Approve),
            (counts(199, 40, 6, 4), 0.5, Decision::NeedsReview),
            // Less than one article of a thousand.
            (counts(40_000, 40, 6, 4), 0.5, Decision::Approve),
            (counts(40_001, 40, 6, 4), 0.5, Decision::NeedsReview),
            (counts(0, 0, 0, 0), 0.5, Decision::NeedsReview),
        ];
        for (counts, similarity, expected) in table {
            assert_eq!(decide(counts, similarity), expected, "{counts:?} {similarity}");
        }
    }

    #[test]
    fn scores_run_from_0_to_100() {
        let verdict = evaluate(&counts(1000, 0, 0, 0), None, &LIMITS());
        assert_eq!((verdict.searchability, verdict.significance), (0, 0));
        assert_eq!(verdict.breadth, Breadth::TooSpecific);
        let verdict = evaluate(&counts(1000, 100, 10, 5), None, &LIMITS());
        assert_eq!((verdict.searchability, verdict.significance), (100, 100));
        let verdict = evaluate(&counts(1000, 900, 12, 8), None, &LIMITS());
        assert_eq!((verdict.searchability, verdict.significance), (100, 100));
        assert_eq!(verdict.breadth, Breadth::TooBroad);
        // Three outlets are all there are.
        let few = Counts { active_sources: 3, active_countries: 2, ..counts(1000, 50, 3, 2) };
        assert_eq!(evaluate(&few, None, &LIMITS()).significance, 100);
    }

    #[test]
    fn thresholds_can_be_changed() {
        let limits = Thresholds { merge_similarity: 0.95, approve_searchability: 90, ..LIMITS() };
        let verdict = evaluate(&counts(2000, 40, 6, 4), Some(&near(0.9)), &limits);
        assert_eq!(verdict.decision, Decision::NeedsReview);
        let odd =
            Thresholds { full_article_count: 0, full_source_count: 0, full_country_count: 0, ..LIMITS() };
        let verdict = evaluate(&counts(2000, 40, 6, 4), None, &odd);
        assert_eq!((verdict.searchability, verdict.significance), (100, 100));
    }

    /// The worked example of `docs/KEYWORDS.md` has these numbers and sentences.
    #[test]
    fn the_worked_example_of_the_documentation_holds() {
        let page = include_str!("../../docs/KEYWORDS.md");
        let counts = Counts {
            archive: 2400,
            articles: 24,
            sources: 5,
            countries: 4,
            active_sources: 12,
            active_countries: 9,
        };
        let similar = [Similar {
            slug: "energy-prices".into(),
            display_name: "Energy prices".into(),
            similarity: 0.62,
        }];
        let verdict = evaluate(&counts, Some(&similar), &LIMITS());
        assert_eq!((verdict.searchability, verdict.significance), (70, 62));
        assert_eq!((verdict.breadth, verdict.decision), (Breadth::Optimal, Decision::Approve));
        for reason in &verdict.reasons {
            assert!(page.contains(reason.as_str()), "{reason}");
        }
        for number in ["0.697", "0.62", "**70**", "**62**", "**approve**"] {
            assert!(page.contains(number), "{number}");
        }
    }

    #[test]
    fn the_documentation_names_every_threshold_with_its_default() {
        let page = include_str!("../../docs/KEYWORDS.md");
        let limits = serde_json::to_value(LIMITS()).unwrap();
        for (name, value) in limits.as_object().unwrap() {
            assert!(page.contains(&format!("| `{name}` | {value} |")), "{name} = {value}");
        }
    }
}
