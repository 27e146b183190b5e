//! A strict reader of the text format, so that tests judge what a scraper would.

use std::collections::BTreeMap;

/// Sorted labels of a sample.
pub(crate) type Labels = Vec<(String, String)>;

/// Buckets (bound, cumulative count) and the count line of one histogram.
type Buckets = (Vec<(f64, f64)>, f64);

/// One family as a scraper sees it.
#[derive(Debug, Default)]
pub(crate) struct Scraped {
    pub(crate) kind: String,
    pub(crate) help: String,
    /// Name with suffix, sorted labels, value.
    pub(crate) samples: Vec<(String, Labels, f64)>,
}

/// Parses a whole exposition.
///
/// # Panics
/// At anything a scraper would refuse, and at families or samples out of order.
pub(crate) fn parse(text: &str) -> BTreeMap<String, Scraped> {
    assert!(text.ends_with('\n'), "the text ends with a newline");
    let mut families: BTreeMap<String, Scraped> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("help text");
            assert!(name > current.as_str(), "{name} comes after {current}");
            current = name.to_owned();
            families.insert(current.clone(), Scraped { help: help.to_owned(), ..Scraped::default() });
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("type");
            assert_eq!(name, current);
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
            families.get_mut(name).expect("HELP came first").kind = kind.to_owned();
        } else {
            let sample = sample(line);
            let family = families.get_mut(&current).expect("a family is open");
            let suffix =
                sample.0.strip_prefix(&current).unwrap_or_else(|| panic!("{} in {current}", sample.0));
            match family.kind.as_str() {
                "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{suffix}"),
                _ => assert_eq!(suffix, ""),
            }
            assert!(
                !family.samples.iter().any(|old| old.0 == sample.0 && old.1 == sample.1),
                "twice: {line}"
            );
            family.samples.push(sample);
        }
    }
    for (name, family) in &families {
        assert!(!family.samples.is_empty(), "{name} has a head but no samples");
        if family.kind == "histogram" {
            check_histogram(name, family);
        }
    }
    families
}

fn sample(line: &str) -> (String, Labels, f64) {
    let (head, value) = line.rsplit_once(' ').expect("a value");
    let value = match value {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        number => number.parse().unwrap_or_else(|_| panic!("{line}")),
    };
    let Some((name, labels)) = head.split_once('{') else { return (head.to_owned(), Vec::new(), value) };
    let mut labels = labels.strip_suffix('}').expect("closing brace");
    let mut pairs = Vec::new();
    while !labels.is_empty() {
        let (name, rest) = labels.split_once("=\"").expect("a quoted value");
        let mut text = String::new();
        let mut characters = rest.char_indices();
        let end = loop {
            let (at, character) = characters.next().expect("closing quote");
            match character {
                '"' => break at,
                '\\' => match characters.next().expect("an escaped character").1 {
                    'n' => text.push('\n'),
                    other @ ('\\' | '"') => text.push(other),
                    other => panic!("escape {other}"),
                },
                other => text.push(other),
            }
        };
        pairs.push((name.to_owned(), text));
        labels = rest[end + 1..].strip_prefix(',').unwrap_or(&rest[end + 1..]);
    }
    let without_le: Vec<_> = pairs.iter().filter(|(name, _)| name != "le").collect();
    assert!(without_le.is_sorted(), "labels of {line}");
    assert!(
        pairs.iter().position(|(name, _)| name == "le").is_none_or(|at| at == pairs.len() - 1),
        "le last: {line}"
    );
    (name.to_owned(), pairs, value)
}

fn check_histogram(name: &str, family: &Scraped) {
    let mut groups: BTreeMap<Labels, Buckets> = BTreeMap::new();
    for (sample, labels, value) in &family.samples {
        let key: Vec<_> = labels.iter().filter(|(label, _)| label != "le").cloned().collect();
        let group = groups.entry(key).or_default();
        if sample.ends_with("_bucket") {
            let le = &labels.last().expect("le").1;
            let bound = if le == "+Inf" { f64::INFINITY } else { le.parse().expect("a bound") };
            group.0.push((bound, *value));
        } else if sample.ends_with("_count") {
            group.1 = *value;
        }
    }
    for (labels, (buckets, count)) in groups {
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{name}{labels:?}: {buckets:?}");
        assert_eq!(buckets.last().expect("+Inf").1, count, "{name}{labels:?}");
    }
}
