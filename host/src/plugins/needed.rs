//! Which shared libraries a plugin needs and the system's loader would not find: looked up as glibc does, before any
//! code runs, and named one by one.
//!
//! `LD_LIBRARY_PATH` is not looked at: plugins are checked and run without it. Where a search path has a word that we
//! cannot spell out, or the system has another loader than glibc's, nothing is said and the loader decides.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use object::read::elf::{Dynamic, ElfFile64};
use object::{ReadCache, elf};

/// The folders that are searched last.
const DEFAULT_FOLDERS: &[&str] = &["/lib", "/usr/lib", "/lib64", "/usr/lib64"];
const CACHE: &str = "/etc/ld.so.cache";
/// Of a library's tree: deeper ones are no library's but a trap.
const MAX_LIBRARIES: usize = 1000;

/// The missing ones, each with who needs it, unless that is the plugin itself.
pub(super) fn missing(library: &Path) -> Vec<String> {
    if !cfg!(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64")) {
        return Vec::new();
    }
    let cache = std::fs::read(CACHE).map(|bytes| read_cache(&bytes)).unwrap_or_default();
    Search { cache, seen: HashSet::new(), missing: Vec::new() }.run(library)
}

/// Whether the loader would look for what it needs in folders that are named by where it lies itself.
pub(super) fn looks_beside_itself(library: &Path) -> bool {
    let wants = std::fs::File::open(library).ok().and_then(read_wants).unwrap_or_default();
    [wants.rpath, wants.runpath]
        .iter()
        .flatten()
        .any(|path| path.contains("$ORIGIN") || path.contains("${ORIGIN}"))
}

struct Search {
    /// Names in the loader's cache, and where they lie.
    cache: HashMap<String, Vec<PathBuf>>,
    seen: HashSet<PathBuf>,
    missing: Vec<String>,
}

/// What one library asks of the loader.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wants {
    needed: Vec<String>,
    /// Where it and (without a run path) those that it needs are looked for; colons between.
    rpath: Option<String>,
    /// Where what it needs itself is looked for.
    runpath: Option<String>,
}

impl Search {
    fn run(mut self, library: &Path) -> Vec<String> {
        let mut todo = vec![(library.to_owned(), Vec::new())];
        while let Some((library, inherited)) = todo.pop() {
            if self.seen.len() > MAX_LIBRARIES || !self.seen.insert(library.clone()) {
                continue;
            }
            let Some(wants) = std::fs::File::open(&library).ok().and_then(read_wants) else { continue };
            let is_plugin = self.seen.len() == 1;
            todo.extend(self.needs_of(&library, &wants, &inherited, is_plugin));
        }
        self.missing.sort();
        self.missing.dedup();
        self.missing
    }

    /// Finds what a library needs, each with the search path that it inherits; notes what is missing.
    fn needs_of(
        &mut self,
        library: &Path,
        wants: &Wants,
        inherited: &[PathBuf],
        is_plugin: bool,
    ) -> Vec<(PathBuf, Vec<PathBuf>)> {
        let origin = library.parent().unwrap_or(Path::new("/"));
        let spelled = |list: &Option<String>| spell_out(list.as_deref().unwrap_or_default(), origin);
        let (Some(own), Some(runpath)) = (spelled(&wants.rpath), spelled(&wants.runpath)) else {
            return Vec::new();
        };
        let rpath = if wants.runpath.is_some() { Vec::new() } else { [&own, inherited].concat() };
        let folders: Vec<PathBuf> = [&*rpath, &*runpath].concat();
        let mut found = Vec::new();
        for name in &wants.needed {
            match self.find(name, &folders, library) {
                Some(path) => found.push((path, rpath.clone())),
                None if is_plugin => self.missing.push(name.clone()),
                None => {
                    let by = library.file_name().unwrap_or_default().to_string_lossy();
                    self.missing.push(format!("{name} (for {by})"));
                }
            }
        }
        found
    }

    fn find(&self, name: &str, folders: &[PathBuf], by: &Path) -> Option<PathBuf> {
        if name.contains('/') {
            return Some(PathBuf::from(name)).filter(|path| fits(path, by));
        }
        let in_folders = folders.iter().map(|folder| folder.join(name));
        let in_cache = self.cache.get(name).into_iter().flatten().cloned();
        let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
        let of_triple = ["/lib", "/usr/lib"].map(|folder| Path::new(folder).join(&triple).join(name));
        let in_defaults = DEFAULT_FOLDERS.iter().map(|folder| Path::new(folder).join(name));
        in_folders.chain(in_cache).chain(of_triple).chain(in_defaults).find(|path| fits(path, by))
    }
}

/// Whether a file is there and is for the same machine as the one that needs it; the loader passes over others.
fn fits(path: &Path, by: &Path) -> bool {
    let head = |path: &Path| -> Option<[u8; 20]> {
        use std::io::Read;
        let mut head = [0; 20];
        std::fs::File::open(path).ok()?.read_exact(&mut head).ok()?;
        Some(head)
    };
    // Bytes 4 and 5 are class and byte order, 18 and 19 the machine.
    let kind =
        |head: [u8; 20]| head.starts_with(b"\x7fELF").then_some((head[4], head[5], head[18], head[19]));
    path.is_file() && head(path).and_then(kind).is_some_and(|found| head(by).and_then(kind) == Some(found))
}

fn read_wants(library: std::fs::File) -> Option<Wants> {
    let data = &ReadCache::new(library);
    let file = ElfFile64::<object::Endianness, _>::parse(data).ok()?;
    let table = file.elf_section_table().dynamic_table(file.endian(), data).ok()?;
    let text =
        |entry: Dynamic| table.string(entry).ok().map(|text| String::from_utf8_lossy(text).into_owned());
    let all = |tag| table.iter().filter(move |entry| entry.tag == tag).filter_map(text);
    Some(Wants {
        needed: all(elf::DT_NEEDED).collect(),
        rpath: all(elf::DT_RPATH).next(),
        runpath: all(elf::DT_RUNPATH).next(),
    })
}

/// A search path's folders with `$ORIGIN` replaced; `None` where another word stands in it.
fn spell_out(list: &str, origin: &Path) -> Option<Vec<PathBuf>> {
    let origin = origin.to_string_lossy();
    let folder = |part: &str| {
        let part = part.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin);
        (!part.contains('$')).then(|| PathBuf::from(part))
    };
    list.split(':').filter(|part| !part.is_empty()).map(folder).collect()
}

/// Names and places of `ld.so.cache` in its format 1.1, as glibc writes it since 1998; nothing of any other.
fn read_cache(bytes: &[u8]) -> HashMap<String, Vec<PathBuf>> {
    const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
    const HEADER: usize = 48;
    const ENTRY: usize = 24;

    let mut names: HashMap<String, Vec<PathBuf>> = HashMap::new();
    // An old cache may stand before it; offsets count from the new one.
    let Some(start) = bytes.windows(MAGIC.len()).position(|window| window == MAGIC) else { return names };
    let cache = &bytes[start..];
    let number =
        |at: usize| cache.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_ne_bytes);
    let text = |at: u32| {
        let rest = cache.get(at as usize..)?;
        let end = rest.iter().position(|&byte| byte == 0)?;
        std::str::from_utf8(&rest[..end]).ok()
    };
    for index in 0..number(MAGIC.len()).unwrap_or(0) as usize {
        let entry = HEADER + index * ENTRY;
        let (Some(key), Some(value)) = (number(entry + 4), number(entry + 8)) else { break };
        if let (Some(name), Some(path)) = (text(key), text(value)) {
            names.entry(name.to_owned()).or_default().push(PathBuf::from(path));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_path_is_spelled_out() {
        let spelled = |list| spell_out(list, Path::new("/p"));
        assert_eq!(
            spelled("$ORIGIN/../lib::/x:${ORIGIN}"),
            Some(vec!["/p/../lib".into(), "/x".into(), "/p".into()])
        );
        assert_eq!(spelled(""), Some(Vec::new()));
        assert_eq!(spelled("/x/$PLATFORM"), None, "only the loader knows");
    }

    #[test]
    fn a_cache_is_read_and_a_broken_one_is_no_cache() {
        let mut cache = b"glibc-ld.so.cache1.1".to_vec();
        cache.extend(1_u32.to_ne_bytes());
        cache.resize(48, 0);
        for number in [0x0303_u32, 72, 80, 0, 0, 0] {
            cache.extend(number.to_ne_bytes());
        }
        cache.extend(b"libx.so\0/y/libx.so\0");
        let read = read_cache(&cache);
        assert_eq!(read["libx.so"], [PathBuf::from("/y/libx.so")]);
        for length in 0..cache.len() {
            read_cache(&cache[..length]);
        }
        let mut endless = cache.clone();
        endless[20..24].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(read_cache(&endless).len(), 1);
    }

    #[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
    #[test]
    fn our_own_program_has_all_it_needs() {
        let own = std::env::current_exe().unwrap();
        assert_eq!(missing(&own), Vec::<String>::new());
        let wants = read_wants(std::fs::File::open(own).unwrap()).unwrap();
        assert!(wants.needed.iter().any(|name| name.starts_with("libc.so")), "{wants:?}");
    }
}
