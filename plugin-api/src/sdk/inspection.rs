//! Inspection for authors: a safe trait, and what stands between it and the ABI.

use abi_stable::std_types::{RResult, RString};

use super::guard::guard;
use crate::{Extension, InspectionTable, PluginError, ProbeInput};

/// A plugin that shows all that a model's headers say. Its
/// [`FormatPlugin::extension`](super::FormatPlugin::extension) answers [`inspection`] to the name
/// [`INSPECTION`](crate::INSPECTION).
///
/// ```
/// use impetus_plugin_api::{sdk::*, *};
///
/// struct Parrot;
///
/// impl Inspection for Parrot {
///     fn inspect(input: &ProbeInput<'_>) -> Result<String, PluginError> {
///         let length = input.head().len();
///         Ok(format!(
///             r#"{{"metadata": {{"parrot.length": {length}}},
///                  "tensors": [{{"name": "text", "type": "U8", "shape": [{length}], "bytes": {length}}}]}}"#
///         ))
///     }
/// }
///
/// let offered = inspection::<Parrot>();
/// let table = offered.table::<InspectionTable>(INSPECTION).unwrap();
/// let input = ProbeInput { path: "a.parrot".into(), is_dir: false, head: (&b"hello"[..]).into() };
/// let told = (table.inspect)(&input).into_result().unwrap();
/// assert!(told.contains("\"parrot.length\": 5"));
/// ```
pub trait Inspection {
    /// A JSON object; every key is optional: `metadata` (an object, by the file's own names; a long list is better told by
    /// its length than whole), `tensors` (a list of `{"name", "type", "shape", "bytes"}` in the file's order, the shape
    /// as the format has it) and `chat_template` (its text). Reads headers, never weights.
    ///
    /// # Errors
    /// As [`FormatPlugin::probe`](super::FormatPlugin::probe).
    fn inspect(input: &ProbeInput<'_>) -> Result<String, PluginError>;
}

/// What [`FormatPlugin::extension`](super::FormatPlugin::extension) answers to the name [`INSPECTION`](crate::INSPECTION).
pub fn inspection<P: Inspection>() -> Extension {
    Extension::new(const { &InspectionTable { inspect: inspect::<P> } })
}

extern "C" fn inspect<P: Inspection>(input: &ProbeInput<'_>) -> RResult<RString, PluginError> {
    guard("inspect", || P::inspect(input).map(RString::from)).into()
}
