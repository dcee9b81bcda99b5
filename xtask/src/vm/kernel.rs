//! The kernels that tests run on: their names, their packages, and the files that a boot needs.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    packages::{Package, Packages, Record, Unpacked, records},
    tools::Tools,
};
use crate::command::{CmdExt as _, shell};

/// Modules needed to mount the machine's files, unless they are built in.
const ROOT_MODULES: [&str; 3] = ["virtio_pci", "virtiofs", "overlay"];

/// A kernel to run tests on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Kernel {
    /// A kernel of Debian.
    Debian(&'static Source),
    /// A file, or a folder like an unpacked package.
    Path(PathBuf),
}

/// The place of a Debian kernel.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Source {
    pub(super) name: &'static str,
    suites: &'static [&'static str],
    /// A pattern for the names of its packages.
    pattern: &'static str,
}

/// The kernels that the tests run on: the oldest that vipnat supports, one in between, the newest.
pub(super) const SUPPORTED: [Source; 3] = [
    Source {
        name: "6.1",
        suites: &["bookworm", "bookworm-security"],
        pattern: "^linux-image-6\\.1\\.[0-9]+-[0-9]+-cloud-amd64$",
    },
    Source {
        name: "6.12",
        suites: &["bookworm-backports", "bookworm-security"],
        pattern: "^linux-image-6\\.12\\.[0-9.]+\\+deb12[0-9.]*-cloud-amd64$",
    },
    Source {
        name: "latest",
        suites: &["sid"],
        pattern: "^linux-image-[0-9.]+\\+deb[0-9.]+-cloud-amd64$",
    },
];

/// A kernel that vipnat refuses.
pub(super) const TOO_OLD: Source = Source {
    name: "5.10",
    suites: &["bullseye", "bullseye-security"],
    pattern: "^linux-image-5\\.10\\.[0-9]+-[0-9]+-cloud-amd64$",
};

/// A kernel's files on disk.
pub(super) struct Files {
    /// Its release, or its path.
    pub(super) release: String,
    pub(super) image: PathBuf,
    /// The folder with its modules.
    pub(super) modules: Option<PathBuf>,
    _packages: Option<Unpacked>,
}

impl Kernel {
    /// Reads the argument of `--kernel`.
    pub(super) fn parse(argument: &str) -> Result<Self, String> {
        let mut all = SUPPORTED.iter().chain([&TOO_OLD]);
        if let Some(source) = all.find(|source| source.name == argument) {
            return Ok(Self::Debian(source));
        }
        let path = Path::new(argument);
        match path.canonicalize() {
            Ok(path) => Ok(Self::Path(path)),
            Err(error) => Err(format!(
                "neither 6.1, 6.12, latest, 5.10, nor the path of a kernel or of a folder like an unpacked \
                 kernel package: {error}"
            )),
        }
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Debian(source) => source.name.to_owned(),
            Self::Path(path) => path.display().to_string(),
        }
    }

    /// Fetches the kernel, if the cache lacks it.
    pub(super) fn files(&self, cache: &Path, tools: &Tools) -> Result<Files> {
        match self {
            Self::Debian(source) => {
                let packages = Packages::new(cache.join(source.name), source.suites);
                let unpacked = packages
                    .unpacked(|packages| choose(&packages.search(source.pattern)?))
                    .with_context(|| format!("Debian's kernel {} can't be had", source.name))?;
                let files = in_folder(&unpacked.root, tools)?;
                Ok(Files { _packages: Some(unpacked), ..files })
            }
            Self::Path(path) if path.is_dir() => in_folder(path, tools),
            Self::Path(path) => {
                let release = path.display().to_string();
                Ok(Files { release, image: path.clone(), modules: None, _packages: None })
            }
        }
    }
}

impl Files {
    /// The modules needed to mount the machine's files, each after its dependencies.
    pub(super) fn root_modules(&self) -> Result<Vec<PathBuf>> {
        let Some(folder) = &self.modules else {
            return Ok(Vec::new());
        };
        let list = folder.join("modules.dep");
        let list =
            fs::read_to_string(&list).with_context(|| format!("reading {}", list.display()))?;
        let mut modules = Vec::new();
        for name in ROOT_MODULES {
            for module in with_dependencies(&list, name) {
                let module = folder.join(module);
                if !modules.contains(&module) {
                    modules.push(module);
                }
            }
        }
        Ok(modules)
    }
}

/// The newest kernel that apt lists, with its packages.
fn choose(shown: &str) -> Result<Vec<Package>> {
    let newest = records(shown)
        .filter(|record| !record.field("Package").is_empty())
        .max_by_key(|record| (numbers(record.field("Package")), numbers(record.field("Version"))));
    let newest = newest.context("there is no such package")?;
    let version = newest.field("Version");
    let package = |name: &str| Package { name: name.to_owned(), version: version.to_owned() };
    let parts = parts(newest).map(package);
    Ok([package(newest.field("Package"))].into_iter().chain(parts).collect())
}

/// Newer kernels have one package for the image and one for the modules.
fn parts(record: Record<'_>) -> impl Iterator<Item = &str> {
    let names = record.field("Depends").split(',').filter_map(|one| one.split_whitespace().next());
    names.filter(|name| name.starts_with("linux-binary-") || name.starts_with("linux-modules-"))
}

/// The numbers in a version, for comparison.
fn numbers(version: &str) -> Vec<u64> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// The kernel files in a folder like an unpacked package.
fn in_folder(root: &Path, tools: &Tools) -> Result<Files> {
    // kmod looks below `lib`, which newer packages do not fill.
    if !root.join("lib/modules").is_dir() && root.join("usr/lib/modules").is_dir() {
        let link = root.join("lib");
        symlink("usr/lib", &link).with_context(|| format!("making {}", link.display()))?;
    }
    let all = root.join("lib/modules");
    let releases = fs::read_dir(&all).with_context(|| {
        format!(
            "{} is not like an unpacked kernel package: reading lib/modules there",
            root.display()
        )
    })?;
    let mut releases: Vec<_> =
        releases.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let (Some(release), true) = (releases.pop(), releases.is_empty()) else {
        bail!("{} has not the modules of one kernel", all.display());
    };
    let modules = all.join(&release);
    let places = [root.join(format!("boot/vmlinuz-{release}")), modules.join("vmlinuz")];
    let image = places.into_iter().find(|place| place.exists());
    let image = image.with_context(|| format!("there is no kernel in {}", root.display()))?;
    if !modules.join("modules.dep").exists() {
        tools.kmod(&shell(), "depmod").arg("-b").arg(root).arg(&release).run_quietly()?;
    }
    ensure!(modules.join("modules.dep").exists(), "depmod made no list of modules");
    Ok(Files { release, image, modules: Some(modules), _packages: None })
}

/// A module and its dependencies in load order, from `modules.dep`; empty if it is built in.
fn with_dependencies<'a>(list: &'a str, name: &str) -> Vec<&'a str> {
    let file = |path: &'a str| path.rsplit('/').next().unwrap_or(path);
    let found = list.lines().find_map(|line| {
        let (module, needs) = line.split_once(':')?;
        (file(module).split('.').next()? == name).then_some((module, needs))
    });
    let Some((module, needs)) = found else {
        return Vec::new();
    };
    needs.split_whitespace().rev().chain([module]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_after_what_they_need() {
        let list =
            "kernel/a/first.ko:\nkernel/b/third.ko.xz: kernel/b/second.ko kernel/a/first.ko\n";
        assert_eq!(
            with_dependencies(list, "third"),
            ["kernel/a/first.ko", "kernel/b/second.ko", "kernel/b/third.ko.xz"]
        );
        assert_eq!(with_dependencies(list, "first"), ["kernel/a/first.ko"]);
        assert!(with_dependencies(list, "fourth").is_empty());
    }

    #[test]
    fn the_newest_is_chosen_with_its_parts() {
        let shown = "Package: linux-image-6.12.95+deb12-cloud-amd64\nVersion: 6.12.95-1\n\n\
                     Package: linux-image-6.12.117+deb12-cloud-amd64\nVersion: 6.12.117-1~deb12u1\n\
                     Depends: kmod, linux-binary-6.12.117+deb12-cloud-amd64 (= 6.12.117-1~deb12u1)\n\n\
                     Package: linux-image-6.12.101+deb12-cloud-amd64\nVersion: 6.12.101-1\n";
        let chosen = choose(shown).unwrap();
        let names: Vec<_> = chosen.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(
            names,
            ["linux-image-6.12.117+deb12-cloud-amd64", "linux-binary-6.12.117+deb12-cloud-amd64"]
        );
        assert!(chosen.iter().all(|package| package.version == "6.12.117-1~deb12u1"));
        assert!(choose("").is_err());
    }
}
