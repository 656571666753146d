//! The known name that somebody probably meant.

/// The candidate nearest to what was written, if one is near enough to be worth naming: a typing
/// error or two away, or one holding the other whole.
pub(super) fn nearest<'c>(
    written: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let written = simplified(written);
    let reach = match written.chars().count() {
        0..=2 => 0,
        3..=4 => 1,
        5..=8 => 2,
        _ => 3,
    };
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let simple = simplified(candidate);
            let distance = distance(&written, &simple);
            let holds = written.len() >= 4
                && simple.len() >= 4
                && (simple.contains(&written) || written.contains(&simple));
            match distance {
                distance if distance <= reach => Some((distance, candidate)),
                distance if holds => Some((reach + distance, candidate)),
                _ => None,
            }
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Lower case, and one kind of separator. Bounded, since distance costs length times length.
fn simplified(text: &str) -> String {
    text.chars()
        .take(100)
        .flat_map(char::to_lowercase)
        .map(|c| if c == '-' { '_' } else { c })
        .collect()
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn one text into the other
/// (optimal string alignment).
fn distance(one: &str, two: &str) -> usize {
    let (one, two): (Vec<char>, Vec<char>) = (one.chars().collect(), two.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=two.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in two.iter().enumerate() {
            let substituted = last[j] + usize::from(a != b);
            let mut best = substituted.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == two[j - 1] && one[i - 1] == *b {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[two.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (one, two, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("tls", "tls", 0),
            ("tls", "tsl", 1),
            ("sender", "sneder", 1),
            ("starttls", "startls", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(one, two), expected, "{one} {two}");
        }
    }

    #[test]
    fn names_that_are_near() {
        let known = ["address", "tls", "auth", "plaintext_auth", "password_hash", "client_secret"];
        for (written, expected) in [
            ("adress", Some("address")),
            ("TLS", Some("tls")),
            ("tsl", Some("tls")),
            ("plaintext-auth", Some("plaintext_auth")),
            ("password", Some("password_hash")),
            ("secret", Some("client_secret")),
            ("authentication", Some("auth")),
            ("colour", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, known), expected, "{written}");
        }
    }
}
