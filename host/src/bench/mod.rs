//! Measures what runs: a model through the engine of this process, or any OpenAI-compatible server through its API.
//!
//! Every figure comes from samples taken while the command runs, and stands beside their scatter. It knows no wire types
//! of our own server: what it sends and reads is what any client of that API does.

mod client;
mod load;
mod model;
mod perplexity;
mod prompts;
mod samples;

pub use load::{Comparison, Load, Metric, Target, measure};
pub use model::{Figures, Speeds, speeds};
pub use perplexity::{Perplexity, perplexity};
pub use samples::Samples;
