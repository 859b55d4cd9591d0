use super::*;

#[test]
fn a_mask_leaves_what_is_allowed() {
    let allowed = Allowed { words: vec![u32::MAX, 0, 0b101] };
    let logits: Vec<f32> = (0..70).map(|i| i as f32).collect();
    let mut masked = vec![9.0];
    allowed.apply(&logits, &mut masked);
    assert_eq!(masked.len(), logits.len());
    for (token, (before, after)) in logits.iter().zip(&masked).enumerate() {
        let expected = if allowed.has(token as u32) { *before } else { f32::NEG_INFINITY };
        assert_eq!(*after, expected, "token {token}");
        assert_eq!(allowed.has(token as u32), token < 32 || token == 64 || token == 66, "token {token}");
    }
}
