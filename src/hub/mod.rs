//! Models of the Hugging Face Hub: their names, the cache that is shared with Python, and the download into it.
//!
//! Nothing here uses the network but [`Hub`], and that only when it is called; [`find`] resolves a name on this machine alone.
//!
//! ```no_run
//! use qembed_q::Embedder;
//! use qembed_q::hub::{Hub, HubSettings, ModelName, find};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let settings = HubSettings::from_env()?;
//! let name: ModelName = "0.6b:q8_0".parse()?;
//! let path = match find(&name, &settings) {
//!     Ok(path) => path,
//!     Err(_) => {
//!         let hub = Hub::new(&settings, None)?;
//!         hub.fetch(&hub.look(&name)?, None)?
//!     }
//! };
//! let embedder = Embedder::open(&path)?;
//! # Ok(())
//! # }
//! ```

mod cache;
mod choose;
mod download;
mod error;
mod http;
mod name;
mod note;
mod pull;
mod settings;
mod store;

pub use error::HubError;
pub use name::{ModelName, NameError, Repository};
pub use note::{Note, PullProgress};
pub use pull::{Hub, Make, Offer};
pub use settings::HubSettings;
pub use store::{Origin, StoredModel, find, removable, remove, stored};
