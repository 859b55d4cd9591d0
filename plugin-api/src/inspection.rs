//! The extension [`INSPECTION`]: all that a model's headers say, for people, without loading it.
//!
//! [`FormatPlugin::extension`](crate::sdk::FormatPlugin::extension) gives a table with one function. `probe` says the
//! little that lists show of every model; this is asked about one model that somebody looks at.

use abi_stable::StableAbi;
use abi_stable::std_types::{RResult, RString};

use crate::{PluginError, ProbeInput};

/// The extension's name; the number is its own major.
pub const INSPECTION: &str = "inspection/1";

/// What [`INSPECTION`] names.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy)]
pub struct InspectionTable {
    /// See [`sdk::Inspection::inspect`](crate::sdk::Inspection::inspect).
    pub inspect: extern "C" fn(&ProbeInput<'_>) -> RResult<RString, PluginError>,
}
