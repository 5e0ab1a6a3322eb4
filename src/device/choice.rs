//! Metal or the CPU: decided of what was found, without a look at any machine.

use crate::options::Device;
use std::fmt;

/// Why Metal cannot compute here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetalError {
    /// The program has no code for it.
    #[error("this program was built without the feature `metal`")]
    NotBuilt,
    /// Another operating system.
    #[error("only macOS has it")]
    NotMacos,
    /// There is no GPU, or none that computes what the kernels need.
    #[error("{reason}")]
    NoDevice {
        /// What it lacks, and the way out.
        reason: String,
    },
}

/// What a self-test speaks for: its result says nothing of another GPU, system or program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(all(feature = "metal", target_os = "macos")), allow(dead_code, reason = "nothing else makes one"))]
pub(crate) struct Tested {
    pub(crate) device: String,
    pub(crate) system: String,
    pub(crate) program: String,
}

impl fmt::Display for Tested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, qembed-q {}", self.device, self.system, self.program)
    }
}

/// What computes, and what there is to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Cpu(Option<String>),
    Metal(Option<String>),
}

/// What is to compute where `asked` for. `metal` says what a self-test of it would speak for, `passed` what the last one that
/// passed spoke for; neither is asked where that is of no consequence.
///
/// # Errors
/// When Metal alone will do, and cannot be used.
pub(crate) fn choose(
    asked: Device,
    metal: impl FnOnce() -> Result<Tested, MetalError>,
    passed: impl FnOnce() -> Option<Tested>,
) -> Result<Choice, MetalError> {
    if asked == Device::Cpu {
        return Ok(Choice::Cpu(None));
    }
    let here = match (metal(), asked) {
        (Ok(here), _) => here,
        (Err(error), Device::Auto) => return Ok(Choice::Cpu(Some(on_cpu(&error)))),
        (Err(error), _) => return Err(error),
    };
    let doubt = match passed() {
        Some(passed) if passed == here => return Ok(Choice::Metal(None)),
        Some(passed) => format!("Metal passed its self-test on another ({passed}), not on this one ({here})"),
        None => format!("Metal has not passed its self-test here ({here})"),
    };
    Ok(match asked {
        Device::Auto => Choice::Cpu(Some(on_cpu(&format!("{doubt}: run `qembed-q selftest` for it")))),
        _ => Choice::Metal(Some(format!("{doubt}: its vectors may be wrong until `qembed-q selftest` says otherwise"))),
    })
}

/// The line that says why the CPU computes although Metal might have.
pub(crate) fn on_cpu(why: &dyn fmt::Display) -> String {
    format!("the CPU computes, not Metal: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tested(device: &str) -> Tested {
        Tested { device: device.into(), system: "macOS 26.1".into(), program: "0.1.0".into() }
    }

    #[test]
    fn the_cpu_is_taken_without_a_look_at_anything_else() {
        let choice = choose(Device::Cpu, || panic!("looked for Metal"), || panic!("looked for a self-test"));
        assert_eq!(choice, Ok(Choice::Cpu(None)));
    }

    #[test]
    fn metal_that_cannot_be_used_is_an_error_or_the_cpu_that_says_why() {
        let reason = "it did not compile".to_owned();
        for error in [MetalError::NotBuilt, MetalError::NotMacos, MetalError::NoDevice { reason }] {
            let found = || Err(error.clone());
            let of_no_use = || panic!("looked for a self-test");
            assert_eq!(choose(Device::Metal, found, of_no_use), Err(error.clone()));
            let Ok(Choice::Cpu(Some(why))) = choose(Device::Auto, found, of_no_use) else { panic!("{error}") };
            assert!(why.starts_with("the CPU computes") && why.contains(&error.to_string()), "{why}");
        }
    }

    #[test]
    fn only_a_self_test_of_this_very_device_system_and_program_counts() {
        let here = || Ok(tested("Apple M2"));
        for asked in [Device::Metal, Device::Auto] {
            assert_eq!(choose(asked, here, || Some(tested("Apple M2"))), Ok(Choice::Metal(None)));
        }
        let others = [
            None,
            Some(tested("Apple M3")),
            Some(Tested { system: "macOS 26.2".into(), ..tested("Apple M2") }),
            Some(Tested { program: "0.1.1".into(), ..tested("Apple M2") }),
        ];
        for passed in others {
            let Ok(Choice::Cpu(Some(why))) = choose(Device::Auto, here, || passed.clone()) else {
                panic!("{passed:?}")
            };
            let Ok(Choice::Metal(Some(warning))) = choose(Device::Metal, here, || passed.clone()) else {
                panic!("{passed:?}")
            };
            for said in [&why, &warning] {
                assert!(said.contains("Apple M2") && said.contains("selftest"), "{said}");
                assert!(passed.as_ref().is_none_or(|passed| said.contains(&passed.to_string())), "{said}");
            }
        }
    }
}
