//! Stop strings in a text that comes in pieces, against looking for them in the whole text.

#![no_main]

use impetus::text::StopMatcher;
use libfuzzer_sys::fuzz_target;

/// The text before the stop string that is complete first; of those complete together the longest.
fn expected<'a>(text: &'a str, stops: &[String]) -> (&'a str, Option<String>) {
    let ends = stops.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| {
        let start = text.find(stop.as_str())?;
        Some((start + stop.len(), std::cmp::Reverse(stop.len()), stop))
    });
    match ends.min() {
        None => (text, None),
        Some((end, _, stop)) => (&text[..end - stop.len()], Some(stop.clone())),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let [count, size, rest @ ..] = bytes else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let mut lines = text.split('\n');
    let stops: Vec<String> = lines.by_ref().take(usize::from(*count % 5)).map(str::to_owned).collect();
    let text: String = lines.collect::<Vec<_>>().join("\n");
    let named: Vec<&String> = stops.iter().filter(|stop| !stop.is_empty()).collect();
    let mut matcher = StopMatcher::new(stops.clone());
    let (mut out, mut stop) = (String::new(), None);
    let letters: Vec<char> = text.chars().collect();
    for piece in letters.chunks(usize::from(*size).max(1)) {
        let found = matcher.push(&piece.iter().collect::<String>());
        out.push_str(&found.text);
        stop = stop.or(found.stop.map(|which| named[which].to_owned()));
    }
    if stop.is_none() {
        out.push_str(&matcher.finish());
    }
    assert_eq!((out.as_str(), stop), expected(&text, &stops), "{stops:?} in {text:?}");
});
