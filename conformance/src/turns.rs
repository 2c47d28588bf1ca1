//! Software drivers of Vulkan take turns: each runs a part of a long list, and all together the whole of it.

use crate::Target;

/// The names of the software drivers, as devices have them.
const SOFTWARE: [&str; 2] = ["wgpu:llvmpipe", "wgpu:swiftshader"];

/// Which targets run an entry of a long list. `tests/conformance` runs every op and dtype on every driver besides.
#[derive(Clone, Debug)]
pub struct Turns {
    /// Those that are there.
    drivers: Vec<String>,
}

impl Turns {
    /// Among these targets.
    #[must_use]
    pub fn among<T: Target>(targets: &[T]) -> Self {
        let names = targets.iter().map(Target::name);
        Self { drivers: names.filter(|name| SOFTWARE.contains(&name.as_str())).collect() }
    }

    /// Whether the target of that name runs an entry. Follows from the text of the entry alone: one of the software
    /// drivers does, and every other target.
    #[must_use]
    pub fn takes(&self, target: &str, entry: &str) -> bool {
        match self.drivers.iter().position(|driver| driver == target) {
            None => true,
            Some(position) => position as u64 == hash(entry) % self.drivers.len() as u64,
        }
    }
}

/// FNV-1a, with a last step that brings the upper bits down.
fn hash(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases;

    #[test]
    fn one_driver_takes_a_case_and_each_about_half_of_them() {
        let turns = Turns { drivers: SOFTWARE.map(str::to_owned).to_vec() };
        let mut counts = [0; 2];
        for case in cases() {
            let entry = case.to_string();
            let takers = SOFTWARE.map(|driver| turns.takes(driver, &entry));
            assert_eq!(takers.iter().filter(|takes| **takes).count(), 1, "{entry}");
            assert!(turns.takes("cpu:portable", &entry) && turns.takes("wgpu:a GPU", &entry));
            counts[usize::from(takers[1])] += 1;
        }
        let all = cases().len();
        assert!(counts.iter().all(|count| count * 20 > all * 9), "{counts:?} of {all}");
    }

    #[test]
    fn a_driver_alone_takes_everything() {
        let turns = Turns { drivers: vec![SOFTWARE[1].to_owned()] };
        assert!(cases().iter().all(|case| turns.takes(SOFTWARE[1], &case.to_string())));
    }
}
