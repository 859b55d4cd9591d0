/** What was dropped, as models: a folder is one, the shards of one file are one, any other file is one by itself. */

export interface Dropped<F = File> {
  /** With the folder that was dropped in front, parted by slashes. */
  path: string;
  file: F;
}

export interface Grouped<F = File> {
  /** What people call it: the folder's or the first file's name. */
  name: string;
  files: Dropped<F>[];
}

const SHARD = /^(.+)-\d{5}-of-\d{5}(\.[^.]+)$/;

export function group<F>(dropped: Dropped<F>[]): Grouped<F>[] {
  const groups = new Map<string, Grouped<F>>();
  for (const one of dropped) {
    const parts = one.path.split("/");
    // Hidden files are the system's or a tool's, not the model's.
    if (parts.some((part) => part === "" || part.startsWith("."))) continue;
    const top = parts[0] ?? "";
    const shard = parts.length === 1 ? SHARD.exec(top) : null;
    const key = parts.length > 1 ? `${top}/` : shard ? `${shard[1]}${shard[2]}` : top;
    const known = groups.get(key);
    if (known) known.files.push(one);
    else groups.set(key, { name: parts.length > 1 ? top : key, files: [one] });
  }
  for (const found of groups.values()) found.files.sort((a, b) => (a.path < b.path ? -1 : 1));
  return [...groups.values()];
}

/** Every file below what was dropped. */
export async function droppedFiles(transfer: DataTransfer): Promise<Dropped[]> {
  // The list is empty once the event is over: entries are taken first.
  const entries = [...transfer.items].flatMap((item) => item.webkitGetAsEntry() ?? []);
  if (entries.length === 0) return [...transfer.files].map((file) => ({ path: file.name, file }));
  const found: Dropped[] = [];
  for (const entry of entries) await walk(entry, "", found);
  return found;
}

async function walk(entry: FileSystemEntry, above: string, found: Dropped[]): Promise<void> {
  const path = `${above}${entry.name}`;
  if (entry.isFile) {
    const file = await new Promise<File>((then, fail) => (entry as FileSystemFileEntry).file(then, fail));
    found.push({ path, file });
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) {
    // A folder is told a hundred entries at a time.
    const some = await new Promise<FileSystemEntry[]>((then, fail) => reader.readEntries(then, fail));
    if (some.length === 0) return;
    for (const inner of some) await walk(inner, `${path}/`, found);
  }
}

/** The files that a file chooser gave, of a folder or one by one. */
export function chosenFiles(list: FileList): Dropped[] {
  return [...list].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
}
