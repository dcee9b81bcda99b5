//! The shape of a table: its apps, and the VIPs of each.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::report::grouped;

/// The number of apps and of their VIPs. Each app has the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shape {
    #[serde(default = "one")]
    pub(crate) apps: u32,
    /// The VIPs of all apps together.
    pub(crate) vips: u32,
}

impl Shape {
    /// A machine of a grid.
    pub(crate) const MACHINE: Self = Self::many_apps(300, 3);

    pub(crate) const fn one_app(vips: u32) -> Self {
        Self { apps: 1, vips }
    }

    /// Apps with `each` VIPs each.
    pub(crate) const fn many_apps(apps: u32, each: u32) -> Self {
        Self { apps, vips: apps * each }
    }

    /// The number of VIPs of each app.
    pub(crate) fn each(self) -> u32 {
        self.vips / self.apps
    }

    /// The number of services that the apps share, in a table that does not change.
    pub(crate) fn services(self) -> usize {
        if self.is_one_app() { 1 } else { 100 }
    }

    pub(crate) fn is_one_app(self) -> bool {
        self.apps == 1
    }
}

fn one() -> u32 {
    1
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { apps, vips } = *self;
        if self.is_one_app() {
            f.pad(&grouped(vips))
        } else {
            f.pad(&format!("{} apps × {}", grouped(apps), grouped(self.each())))
        }
    }
}

/// Reads `60000`, which are the VIPs of one app, or `300x3`.
impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| match text.parse() {
            Ok(0) | Err(_) => Err(format!("{text:?} is no number above 0")),
            Ok(number) => Ok(number),
        };
        match text.split_once('x') {
            None => Ok(Self::one_app(number(text)?)),
            Some((apps, each)) => {
                let (apps, each): (u32, u32) = (number(apps)?, number(each)?);
                apps.checked_mul(each).ok_or("too many VIPs")?;
                Ok(Self::many_apps(apps, each))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_read_as_it_is_typed_and_shown_in_words() {
        for (text, shape, words) in [
            ("60000", Shape::one_app(60_000), "60,000"),
            ("300x3", Shape::MACHINE, "300 apps × 3"),
            ("2000x1", Shape { apps: 2000, vips: 2000 }, "2,000 apps × 1"),
        ] {
            assert_eq!(text.parse(), Ok(shape), "{text}");
            assert_eq!(shape.to_string(), words);
        }
        for text in ["", "0", "x3", "300x", "300x0", "-1", "65536x65536"] {
            assert!(text.parse::<Shape>().is_err(), "{text}");
        }
    }
}
