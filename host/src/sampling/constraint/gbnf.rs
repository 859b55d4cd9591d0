//! GBNF, llama.cpp's notation for grammars, which nothing here reads yet.

use super::Refusal;

/// The same grammar in llguidance's Lark.
///
/// # Errors
/// Always: there is no converter yet.
pub(super) fn to_lark(_grammar: &str) -> Result<String, Refusal> {
    Err(Refusal::new("GBNF is not supported by this version; write the grammar in Lark"))
}
