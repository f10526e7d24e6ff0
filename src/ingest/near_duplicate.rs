//! Finds copies of the same agency text: MinHash (Broder 1997) with banding (Leskovec, Rajaraman and Ullman,
//! "Mining of Massive Datasets", chapter 3) over three-word shingles.
//!
//! Give both functions the body alone: headlines are what outlets change first. [`bands`] are stored with each
//! article; two texts that share a band are candidates, and [`similarity`] decides. Stored values depend on every
//! constant here: changing one means computing all bands anew.

use std::collections::HashSet;

use super::normalise;

/// Jaccard similarity from which a text counts as a copy. Measured on bodies of 40 to 80 words: copies with a
/// tag, a credit, changed words or a sentence cut lie between 0.56 and 1.00 (with only a headline, a tag and
/// small cuts from 0.72), independent reports of the same event at 0.16 and below.
pub const SYNDICATED_THRESHOLD: f64 = 0.4;
/// Words below which nothing counts as a copy: short texts are alike by chance.
pub const MIN_WORDS: usize = 20;

const SHINGLE_WORDS: usize = 3;
const BANDS: usize = 24;
const ROWS: usize = 3;
/// Words beyond this many are not looked at; a copy shows before.
const MAX_WORDS: usize = 5_000;

/// 24 numbers, one for each band of three MinHash values, each carrying its band's place; empty for a text
/// under [`MIN_WORDS`]. Of two texts with Jaccard similarity s, some band is equal with the probability
/// 1 - (1 - s^3)^24: 0.80 at 0.4, 0.96 at 0.5, 0.997 at 0.6, and 0.003 at 0.05.
pub fn bands(text: &str) -> Vec<i32> {
    let shingles = shingles(text);
    if shingles.is_empty() {
        return Vec::new();
    }
    let mut minima = [u64::MAX; BANDS * ROWS];
    for shingle in shingles {
        // One permutation for each place: the shingle's hash, mixed with the place's own seed.
        for (seed, minimum) in (1_u64..).zip(&mut minima) {
            *minimum = (*minimum).min(mix(shingle ^ mix(seed)));
        }
    }
    minima
        .chunks_exact(ROWS)
        .zip(0_u64..)
        .map(|(rows, place)| {
            let hash = rows.iter().fold(mix(place), |hash, row| mix(hash ^ row));
            let [a, b, c, d, ..] = hash.to_be_bytes();
            i32::from_be_bytes([a, b, c, d])
        })
        .collect()
}

/// Jaccard similarity of the two texts' shingles, 0 to 1; 0 when either is under [`MIN_WORDS`].
pub fn similarity(a: &str, b: &str) -> f64 {
    let (a, b) = (shingles(a), shingles(b));
    let shared = a.intersection(&b).count();
    let all = a.len() + b.len() - shared;
    if all == 0 { 0.0 } else { shared as f64 / all as f64 }
}

/// Hashes of all runs of three words, whatever their case and punctuation.
fn shingles(text: &str) -> HashSet<u64> {
    let normal = normalise::text(text).to_lowercase();
    let words: Vec<u64> = normal
        .split(|c: char| !c.is_alphanumeric())
        .filter(|w| !w.is_empty())
        .take(MAX_WORDS)
        .map(fnv1a)
        .collect();
    if words.len() < MIN_WORDS {
        return HashSet::new();
    }
    words.windows(SHINGLE_WORDS).map(|run| run.iter().fold(0, |hash, word| mix(hash ^ word))).collect()
}

/// FNV-1a, 64 bits (Fowler, Noll and Vo): fixed for ever, unlike the standard library's hasher.
fn fnv1a(word: &str) -> u64 {
    word.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The step of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIRE: [&str; 3] = [
        "The city council of Sarnberg voted on Tuesday to close its last coal-fired heating plant by the end of next \
         year, two years ahead of schedule. The plant supplies about 30,000 flats. The mayor said that heat pumps and \
         a new pipe from the paper mill would take over. Residents had complained about soot for decades.",
        "Ferry services between the islands of Hellvik and Morna were suspended on Friday after a cargo ship ran \
         aground in thick fog. No one was hurt, the coast guard said, but about 400 passengers were stranded \
         overnight. Divers are to inspect the hull before the ship can be towed into port.",
        "Die Gewerkschaft der Lokführer hat für Montag einen Warnstreik angekündigt. Betroffen sind nach Angaben des \
         Bahnbetreibers vor allem Regionalzüge im Süden des Landes. Die Verhandlungen über höhere Löhne waren in der \
         Nacht zum Samstag ohne Ergebnis abgebrochen worden. Pendler müssen mit langen Wartezeiten rechnen.",
    ];

    /// What outlets do to agency text: a headline and a tag before it, a sentence cut, a credit after it, other
    /// quotation marks and spacing, a few words changed.
    fn copies(text: &str) -> Vec<String> {
        let sentences: Vec<&str> = text.split_inclusive(". ").collect();
        let mut copies = vec![
            format!("A quite different headline of our own (AP) - {text}"),
            format!("{text} Reporting by our agency partners; editing by the news desk."),
            text.replace(". ", ".\n\n").to_uppercase(),
            text.replacen(" said", " told reporters", 1).replacen("about", "some", 1).replacen(
                "langen",
                "längeren",
                1,
            ),
        ];
        for cut in 1..sentences.len() {
            let kept: String =
                sentences.iter().enumerate().filter(|(n, _)| *n != cut).map(|(_, s)| *s).collect();
            copies.push(format!("(Reuters) - {kept}"));
        }
        copies
    }

    /// Other reports of the same three events.
    const OTHER_REPORTS: [(&str, &str); 5] = [
        (
            WIRE[0],
            "Sarnberg is to give up coal sooner than planned. On Tuesday the council decided to shut the heating \
            plant by the end of next year. Some 30,000 flats will then get their heat from heat pumps and from a new \
            pipe that carries waste heat from the paper mill. People living nearby, who have complained about soot \
            for decades, welcomed the vote.",
        ),
        (
            WIRE[0],
            "Sarnberg's council has voted to close the last coal-fired heating plant in the city two years early. \
            The opposition warned of higher bills for tenants and asked for an independent study of the costs, which \
            the mayor refused. The plant's 80 workers are to be offered places at the city's works.",
        ),
        (
            WIRE[1],
            "A cargo ship ran aground in thick fog off Morna on Friday, bringing ferry traffic to Hellvik to a \
            halt. The coast guard said no one was hurt. About 400 people had to spend the night in the terminal. The \
            ship will be towed into port once divers have looked at its hull.",
        ),
        (
            WIRE[2],
            "Pendler müssen sich am Montag auf Ausfälle einstellen: Die Lokführer wollen die Arbeit niederlegen. \
            Vor allem Regionalzüge im Süden des Landes sind betroffen, teilte der Bahnbetreiber mit. In der Nacht zum \
            Samstag waren die Verhandlungen über höhere Löhne gescheitert.",
        ),
        (WIRE[0], WIRE[1]),
    ];

    fn share_a_band(a: &str, b: &str) -> bool {
        let b = bands(b);
        bands(a).iter().any(|band| b.contains(band))
    }

    #[test]
    fn copies_are_found_and_recognised() {
        for text in WIRE {
            for copy in copies(text) {
                let similarity = similarity(text, &copy);
                assert!(similarity >= SYNDICATED_THRESHOLD, "{similarity:.2}: {copy}");
                assert!(share_a_band(text, &copy), "{similarity:.2}: {copy}");
            }
        }
    }

    #[test]
    fn other_reports_of_the_same_event_are_not_copies() {
        for (a, b) in OTHER_REPORTS {
            let similarity = similarity(a, b);
            assert!(similarity < SYNDICATED_THRESHOLD / 2.0, "{similarity:.2}: {b}");
        }
    }

    #[test]
    fn bands_are_fixed_for_ever() {
        // Stored in databases: a change here means that every article's bands must be computed anew.
        assert_eq!(bands(WIRE[0])[..4], [903_260_524, 1_579_545_452, -1_804_119_929, -425_072_395]);
    }

    #[test]
    fn short_texts_never_match() {
        let words = |n: usize| (0..n).map(|n| format!("w{n} ")).collect::<String>();
        assert!(bands(&words(MIN_WORDS - 1)).is_empty());
        assert_eq!(similarity(&words(MIN_WORDS - 1), &words(MIN_WORDS - 1)), 0.0);
        assert_eq!(bands(&words(MIN_WORDS)).len(), BANDS);
        assert_eq!(similarity(&words(MIN_WORDS), &words(MIN_WORDS)), 1.0);
        assert!(bands("").is_empty());
    }

    #[test]
    fn setting_does_not_matter() {
        let text = WIRE[2];
        assert_eq!(bands(text), bands(&format!("  {}\u{ad}", text.to_uppercase().replace(' ', " \n"))));
    }
}
