//! Numeric versions of images (contract A8).

use std::fmt;
use std::str::FromStr;

/// A version `major.minor.patch`, ordered by its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u64,
    /// The second number.
    pub minor: u64,
    /// The third number.
    pub patch: u64,
}

impl Version {
    /// Returns the version at the start of an image tag such as `v1.0.450-new`; `None` for a tag without three numbers.
    pub fn of_tag(tag: &str) -> Option<Self> {
        let mut parts = tag.strip_prefix('v').unwrap_or(tag).splitn(3, '.');
        let (major, minor) = (number(parts.next()?)?, number(parts.next()?)?);
        let rest = parts.next()?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        Some(Self { major, minor, patch: number(rest.get(..end)?)? })
    }
}

/// Parses digits. A number that does not fit counts as the largest one.
fn number(digits: &str) -> Option<u64> {
    let only = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    only.then(|| digits.parse().unwrap_or(u64::MAX))
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let version = Self::of_tag(text).filter(|_| text.bytes().all(|c| c.is_ascii_digit() || c == b'.'));
        let whole = version.filter(|_| text.split('.').count() == 3);
        whole.ok_or_else(|| "use three numbers, such as 1.0.450".to_owned())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_three_leading_numbers_of_a_tag_are_judged() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert_eq!(Version::of_tag("1.0.450-new"), Some(version("1.0.450")));
        assert_eq!(Version::of_tag("v2.10.3"), Some(version("2.10.3")));
        for odd in ["latest", "1.0", "1.0.x", "", "1..2", "+1.0.0", "1.0.+1", "vv1.0.0"] {
            assert_eq!(Version::of_tag(odd), None, "{odd}");
        }
        assert!(Version::of_tag("1.0.450-new") >= Some(version("1.0.450")), "a suffix is no pre-release");
        assert!(
            Version::of_tag("0.9.99999999999999999999") < Some(version("1.0.0")),
            "a long number is a number"
        );
    }

    #[test]
    fn versions_are_ordered_by_number() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert!(version("1.0.9") < version("1.0.450"));
        assert!(version("1.1.0") > version("1.0.999"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_three_numbers_are_read_back_from_text_and_tag(
            major: u64, minor: u64, patch: u64, v in "v?", suffix in "([^0-9].*)?",
        ) {
            let version = Version { major, minor, patch };
            prop_assert_eq!(version.to_string().parse(), Ok(version));
            prop_assert_eq!(Version::of_tag(&format!("{v}{version}{suffix}")), Some(version));
        }

        #[test]
        fn random_text_is_a_version_only_if_it_is_three_numbers(text in "\\PC*|[v0-9.+-]{0,12}") {
            let parts: Vec<&str> = text.split('.').collect();
            let digits = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
            let whole = parts.len() == 3 && parts.iter().all(digits);
            prop_assert_eq!(text.parse::<Version>().is_ok(), whole);
            prop_assert!(!whole || Version::of_tag(&text).is_some());
        }
    }
}
