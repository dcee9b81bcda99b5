//! File names in the directory of apps: `1:shop` for an app, `22768` or `+22768` for its links on a cgroup.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use vipnat_common::AppId;

/// The characters that stay as they are in a file name. bpffs refuses dots (`bpf_lookup` in
/// kernel/bpf/inode.c).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'@').remove(b'+');

/// Precedes the id of a cgroup that `vipnat attach` attached. No table has to name such a cgroup.
const BY_HAND: char = '+';

/// The directory of an app.
pub(super) fn dir_name(app_id: AppId, name: &str) -> String {
    format!("{app_id}:{}", utf8_percent_encode(name, PLAIN))
}

/// The directory of an app's links on a cgroup.
pub(super) fn links_name(cgroup: u64, by_hand: bool) -> String {
    if by_hand { format!("{BY_HAND}{cgroup}") } else { cgroup.to_string() }
}

/// Whether a directory of links was made by `vipnat attach`.
pub(super) fn is_by_hand(file: &str) -> bool {
    file.starts_with(BY_HAND)
}

/// The cgroup id in the name of a directory of links, and whether `vipnat attach` made the directory.
pub(crate) fn parse_links_name(file: &str) -> Option<(u64, bool)> {
    let id = file.strip_prefix(BY_HAND);
    Some((id.unwrap_or(file).parse().ok()?, id.is_some()))
}

/// The app id and name in the name of an app's directory.
pub(crate) fn parse_dir_name(file: &str) -> Option<(AppId, String)> {
    let (app_id, name) = file.split_once(':')?;
    let name = percent_decode_str(name).decode_utf8().ok()?;
    Some((AppId(app_id.parse().ok()?), name.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_app_name_is_a_file_name_on_bpffs(number: u32, name in "\\PC{1,21}") {
            let app_id = AppId(number);
            let file = dir_name(app_id, &name);
            proptest::prop_assert!(file.len() < 255 && !file.contains(['.', '/']), "{}", file);
            proptest::prop_assert_eq!(parse_dir_name(&file), Some((app_id, name)));
        }
    }

    #[test]
    fn plain_names_stay_readable() {
        assert_eq!(dir_name(AppId(1), "shop"), "1:shop");
        assert_eq!(dir_name(AppId(12), "lxc.shop-2"), "12:lxc%2Eshop-2");
    }
}
