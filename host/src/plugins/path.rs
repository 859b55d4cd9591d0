//! Whether every step of a path is safe from others: folders, links and the file at its end belong to us or to root,
//! and nobody else could have written them.

use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::record::{Refusal, State};

/// Links that a path may go through: more of them are a circle, as for the system.
const MAX_LINKS: usize = 40;
const WRITABLE_BY_ALL: u32 = 0o002;
const WRITABLE_BY_GROUP: u32 = 0o020;
/// In such a folder, as in /tmp, everyone may add files but only owners replace theirs.
const STICKY: u32 = 0o1000;

/// Follows a path as the system would, link by link, and judges each step. What it gives has no links in it.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, Refusal> {
    let absolute = std::path::absolute(path).map_err(|error| unreadable(path, &error))?;
    let us = Us::now();
    let mut rest: Vec<OsString> = steps(&absolute);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    us.judge_folder(&at, &lstat(&at)?, &absolute)?;
    while let Some(step) = rest.pop() {
        if step == ".." {
            at.pop();
            continue;
        }
        at.push(step);
        let metadata = lstat(&at)?;
        if metadata.is_symlink() {
            links += 1;
            if links > MAX_LINKS {
                return Err(unreadable(path, &"its links lead in a circle"));
            }
            us.judge_owner(&format!("the link {}", at.display()), &metadata)?;
            let target = std::fs::read_link(&at).map_err(|error| unreadable(&at, &error))?;
            at.pop();
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            rest.extend(steps(&target));
        } else if metadata.is_dir() {
            us.judge_folder(&at, &metadata, &absolute)?;
        } else if rest.is_empty() {
            us.judge_file(&metadata)?;
        }
    }
    Ok(at)
}

/// The names of a path, last first.
fn steps(path: &Path) -> Vec<OsString> {
    let name = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(name).collect()
}

fn lstat(path: &Path) -> Result<Metadata, Refusal> {
    std::fs::symlink_metadata(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(
        State::LoadFailed,
        format!("{} cannot be read: {error}", path.display()),
        "put the library there, make it readable for the user who runs impetus, or correct the path in plugins.toml",
    )
}

/// Who runs this process.
struct Us {
    user: u32,
    /// The system's lists of users and groups, for folders that a group may write.
    users: String,
    groups: String,
}

impl Us {
    fn now() -> Self {
        let list = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Us { user: nix::unistd::geteuid().as_raw(), users: list("/etc/passwd"), groups: list("/etc/group") }
    }

    fn judge_file(&self, metadata: &Metadata) -> Result<(), Refusal> {
        if !metadata.is_file() {
            let reason = "it is not a regular file but a device, a pipe or a socket";
            return Err(Refusal::new(State::NotAPlugin, reason, "put the library itself there"));
        }
        self.judge_owner("the library", metadata)?;
        self.judge_mode("the library", metadata)
    }

    fn judge_folder(&self, folder: &Path, metadata: &Metadata, library: &Path) -> Result<(), Refusal> {
        let what = match library.parent() == Some(folder) {
            true => "its folder".to_owned(),
            false => format!("the folder {} on its way", folder.display()),
        };
        self.judge_owner(&what, metadata)?;
        if metadata.mode() & STICKY != 0 { Ok(()) } else { self.judge_mode(&what, metadata) }
    }

    fn judge_owner(&self, what: &str, metadata: &Metadata) -> Result<(), Refusal> {
        if metadata.uid() == 0 || metadata.uid() == self.user {
            return Ok(());
        }
        Err(Refusal::new(
            State::Untrusted,
            format!(
                "{what} belongs to user {}: expected root or user {}, who runs impetus",
                metadata.uid(),
                self.user
            ),
            format!("chown {} to the user who runs impetus, if you trust the library", without_article(what)),
        ))
    }

    fn judge_mode(&self, what: &str, metadata: &Metadata) -> Result<(), Refusal> {
        let mode = metadata.mode();
        let (who, cure) = if mode & WRITABLE_BY_ALL != 0 {
            ("every user".to_owned(), "go-w")
        } else if mode & WRITABLE_BY_GROUP != 0 && !self.is_ours_alone(metadata.gid()) {
            (format!("group {}, which has other members,", metadata.gid()), "g-w")
        } else {
            return Ok(());
        };
        Err(Refusal::new(
            State::Untrusted,
            format!("{what} can be written by {who} (mode {:03o})", mode & 0o777),
            format!("chmod {cure} {}, if you trust the library", without_article(what)),
        ))
    }

    /// Whether a group has no members but us and root, as where each user has a group of their own name.
    fn is_ours_alone(&self, group: u32) -> bool {
        let number = group.to_string();
        let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
        let ours = |user: &str| user == "0" || user == self.user.to_string();
        let users: Vec<Vec<String>> = self.users.lines().map(fields).filter(|user| user.len() > 3).collect();
        let Some(of_group) = self.groups.lines().map(fields).find(|it| it.get(2) == Some(&number)) else {
            return false;
        };
        let members = of_group.get(3).map(String::as_str).unwrap_or_default();
        let named = members.split(',').filter(|name| !name.is_empty());
        let by_name = |name: &str| users.iter().any(|user| user[0] == name && ours(&user[2]));
        named.into_iter().all(by_name)
            && users.iter().filter(|user| user[3] == number).all(|user| ours(&user[2]))
    }
}

fn without_article(what: &str) -> &str {
    match what {
        "its folder" => "its folder",
        other => other.strip_suffix(" on its way").unwrap_or(other),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    #[test]
    fn each_folder_on_the_way_counts() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b");
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("x.so");
        std::fs::write(&file, "abc").unwrap();
        set_mode(&file, 0o644);
        assert_eq!(resolve(&file).unwrap(), root.path().canonicalize().unwrap().join("a/b/x.so"));
        for (loose, words) in [
            (&file, "the library can be written by every user (mode 666)"),
            (&folder, "its folder can be written"),
            (&root.path().join("a"), "a on its way can be written"),
        ] {
            let (strict, open) = if loose == &file { (0o644, 0o666) } else { (0o755, 0o777) };
            set_mode(loose, open);
            let refusal = resolve(&file).unwrap_err();
            assert_eq!(refusal.state, State::Untrusted);
            assert!(refusal.reason.contains(words), "{}", refusal.reason);
            set_mode(loose, strict);
        }
        set_mode(&folder, 0o1777);
        assert!(resolve(&file).is_ok(), "a sticky folder lets others add but not replace");
    }

    #[test]
    fn links_are_followed_and_what_they_go_through_is_judged() {
        let root = tempfile::tempdir().unwrap();
        let real = root.path().join("real");
        std::fs::create_dir_all(real.join("deep")).unwrap();
        std::fs::write(real.join("x.so"), "abc").unwrap();
        symlink("deep/../x.so", real.join("near.so")).unwrap();
        symlink(real.join("near.so"), root.path().join("far.so")).unwrap();
        let canonical = real.join("x.so").canonicalize().unwrap();
        assert_eq!(resolve(&root.path().join("far.so")).unwrap(), canonical);
        set_mode(&real, 0o777);
        let refusal = resolve(&root.path().join("far.so")).unwrap_err();
        assert!(refusal.reason.contains("real on its way"), "{}", refusal.reason);
        symlink("circle.so", root.path().join("circle.so")).unwrap();
        assert!(resolve(&root.path().join("circle.so")).unwrap_err().reason.contains("circle"));
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let refusal = resolve(Path::new("/dev/null")).unwrap_err();
        assert_eq!(refusal.state, State::NotAPlugin);
        assert_eq!(resolve(Path::new("/no/such/file.so")).unwrap_err().state, State::LoadFailed);
    }

    #[test]
    fn a_group_of_our_own_is_ours() {
        let us = Us {
            user: 1000,
            users: "root:x:0:0::\nme:x:1000:1000::\nyou:x:1001:100::\n".to_owned(),
            groups: "root:x:0:\nme:x:1000:\nusers:x:100:me\nstaff:x:50:me,you\nmine:x:60:me,root\n"
                .to_owned(),
        };
        for (group, expected) in [(1000, true), (60, true), (100, false), (50, false), (0, true), (7, false)]
        {
            assert_eq!(us.is_ours_alone(group), expected, "{group}");
        }
    }
}
