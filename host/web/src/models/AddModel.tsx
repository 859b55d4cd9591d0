import { FolderUp, FileUp } from "lucide-react";
import { type ReactNode, useRef, useState } from "react";
import { chosenFiles, droppedFiles, group } from "../lib/grouping";
import { Button } from "../ui/Button";
import { begin } from "./uploading";

/** The whole page takes what is dropped onto it. */
export function DropTarget({ children }: { children: ReactNode }) {
  const [over, setOver] = useState(false);
  // One enters each element within, and leaves it.
  const depth = useRef(0);
  const hasFiles = (transfer: DataTransfer) => transfer.types.includes("Files");
  return (
    <div
      className="relative h-full"
      data-testid="drop-target"
      onDragEnter={(event) => {
        if (!hasFiles(event.dataTransfer)) return;
        event.preventDefault();
        depth.current += 1;
        setOver(true);
      }}
      onDragLeave={() => {
        depth.current -= 1;
        if (depth.current <= 0) setOver(false);
      }}
      onDragOver={(event) => {
        if (hasFiles(event.dataTransfer)) event.preventDefault();
      }}
      onDrop={(event) => {
        event.preventDefault();
        depth.current = 0;
        setOver(false);
        void droppedFiles(event.dataTransfer).then((files) => begin(group(files)));
      }}
    >
      {children}
      {over && (
        <div className="pointer-events-none absolute inset-3 z-30 flex items-center justify-center rounded-2xl border-2 border-dashed border-accent bg-accent-soft/90 text-center text-[17px] font-semibold">
          Drop a GGUF file or a checkpoint's folder: it is added to the models
        </div>
      )}
    </div>
  );
}

/** The same by a file chooser, for those who do not drag. */
export function AddModel() {
  const file = useRef<HTMLInputElement>(null);
  const folder = useRef<HTMLInputElement>(null);
  const take = (list: FileList | null) => {
    if (list) begin(group(chosenFiles(list)));
  };
  return (
    <div className="flex gap-2">
      <Button onClick={() => file.current?.click()}>
        <FileUp size={17} aria-hidden /> Add a file
      </Button>
      <Button onClick={() => folder.current?.click()}>
        <FolderUp size={17} aria-hidden /> Add a folder
      </Button>
      <input ref={file} type="file" multiple hidden aria-label="Model files" onChange={(event) => { take(event.target.files); event.target.value = ""; }} />
      <input
        ref={(element) => {
          folder.current = element;
          // React knows no such attribute.
          element?.setAttribute("webkitdirectory", "");
        }}
        type="file"
        hidden
        aria-label="A checkpoint's folder"
        onChange={(event) => { take(event.target.files); event.target.value = ""; }}
      />
    </div>
  );
}
