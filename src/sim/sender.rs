//! Who a message says it is from.
//!
//! Owns [`header_senders`], a small reader of the From field (RFC 5322 §3.6.2): enough to tell one
//! address from another, for the one question that Exchange Online asks of it.

/// The addresses of the first From field, in the order in which they are written.
pub(super) fn header_senders(message: &[u8]) -> Vec<String> {
    let Some(value) = first_from(message) else { return Vec::new() };
    split_outside_quotes(&value, ',')
        .into_iter()
        .filter_map(|entry| {
            let plain = without_comments_and_quotes(&entry);
            let address = match (plain.rfind('<'), plain.rfind('>')) {
                (Some(start), Some(end)) if start < end => &plain[start + 1..end],
                _ => plain.as_str(),
            };
            let address = address.trim();
            address.contains('@').then(|| address.to_owned())
        })
        .collect()
}

/// The unfolded value of the first From field of the header.
fn first_from(message: &[u8]) -> Option<String> {
    let mut found: Option<String> = None;
    for line in message.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let is_folded = matches!(line.first(), Some(b' ' | b'\t'));
        match &mut found {
            Some(value) if is_folded => {
                value.push(' ');
                value.push_str(&String::from_utf8_lossy(line));
            }
            Some(_) => break,
            None if line.is_empty() => break,
            None => {
                let text = String::from_utf8_lossy(line);
                if let Some((name, value)) = text.split_once(':')
                    && name.trim_end().eq_ignore_ascii_case("from")
                {
                    found = Some(value.to_owned());
                }
            }
        }
    }
    found
}

fn split_outside_quotes(text: &str, separator: char) -> Vec<String> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    let (mut is_quoted, mut is_escaped, mut depth) = (false, false, 0_u32);
    for c in text.chars() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' if depth == 0 => is_quoted = !is_quoted,
            '(' if !is_quoted => depth += 1,
            ')' if !is_quoted => depth = depth.saturating_sub(1),
            _ if c == separator && !is_quoted && depth == 0 => {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            _ => {}
        }
        part.push(c);
    }
    parts.push(part);
    parts
}

/// Without comments, and without a display name in quotes, which may hold anything.
fn without_comments_and_quotes(text: &str) -> String {
    let mut plain = String::new();
    let (mut is_quoted, mut is_escaped, mut depth) = (false, false, 0_u32);
    // A quoted local part is kept; a quoted string that no @ follows is a name.
    let mut quoted = String::new();
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        if is_quoted {
            quoted.push(c);
            match c {
                _ if is_escaped => is_escaped = false,
                '\\' => is_escaped = true,
                '"' => {
                    is_quoted = false;
                    if characters.peek() == Some(&'@') {
                        plain.push_str(&quoted);
                    }
                    quoted.clear();
                }
                _ => {}
            }
            continue;
        }
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if depth > 0 => is_escaped = true,
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            '"' => {
                is_quoted = true;
                quoted.push(c);
            }
            _ => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_from_field() {
        for (message, expected) in [
            ("From: a@b\r\n\r\n", &["a@b"][..]),
            ("Subject: x\r\nFROM : \"A, <x@y>\" <a@b>\r\n\r\n", &["a@b"]),
            ("From: A (c@d, e)\r\n <a@b>, f@g\r\nFrom: late@x\r\n\r\n", &["a@b", "f@g"]),
            ("From: \"quoted one\"@b\r\n\r\n", &["\"quoted one\"@b"]),
            ("From: \"q\\\" <x@y>\" <a@b>\r\n\r\n", &["a@b"]),
            ("Subject: x\r\n\r\nFrom: a@b\r\n", &[]),
            ("From: nobody\r\n\r\n", &[]),
            ("", &[]),
        ] {
            assert_eq!(header_senders(message.as_bytes()), expected, "{message:?}");
        }
    }
}
