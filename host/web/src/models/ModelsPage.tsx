import { useNavigate, useSearch } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { told } from "../api/client";
import { useModels } from "../api/queries";
import { bytes } from "../lib/format";
import { find, formatsOf, NO_FILTER, type Filter, type Sort } from "../lib/search";
import { Input, Select } from "../ui/Field";
import { Empty, Page, Problem } from "../ui/Panel";
import { AddModel, DropTarget } from "./AddModel";
import { ModelDialog } from "./ModelDialog";
import { ModelList } from "./ModelList";
import { Uploads } from "./Uploads";

export function ModelsPage() {
  const { data: models, error } = useModels();
  const [filter, setFilter] = useState<Filter>(NO_FILTER);
  const search = useSearch({ from: "/models" });
  const go = useNavigate();
  const found = useMemo(() => find(models ?? [], filter), [models, filter]);
  const chosen = search.model === undefined ? undefined : models?.find((model) => model.id === search.model);
  const size = (models ?? []).reduce((sum, model) => sum + (model.summary.size_bytes ?? 0), 0);
  const able = (models ?? []).filter((model) => model.state !== "unavailable").length;
  return (
    <DropTarget>
      <Page
        title="Models"
        lead={models && models.length > 0 ? `${able} can be served, ${models.length - able} cannot; ${bytes(size)} on disk.` : "What lies in the model folders, and what can be done with it."}
        actions={<AddModel />}
      >
        {error && <Problem>{told(error)}</Problem>}
        <Uploads />
        {models && models.length > 0 && <Filters models={models.length} formats={formatsOf(models)} filter={filter} onChange={setFilter} />}
        {models?.length === 0 && (
          <Empty title="No model was found">
            Drop a <code>.gguf</code> file or a checkpoint's folder anywhere onto this page, or put it into the server's model folder: it appears here by itself.
          </Empty>
        )}
        {models && models.length > 0 && found.length === 0 && <Empty title="Nothing fits this search">Fewer words find more. Sizes are searched as &lt;8gb or &gt;500mb.</Empty>}
        {found.length > 0 && <ModelList models={found} onOpen={(id) => void go({ to: "/models", search: { model: id } })} />}
      </Page>
      {chosen && <ModelDialog model={chosen} onClose={() => void go({ to: "/models", search: {} })} />}
    </DropTarget>
  );
}

function Filters({ models, formats, filter, onChange }: { models: number; formats: string[]; filter: Filter; onChange: (filter: Filter) => void }) {
  return (
    <search className="flex flex-wrap gap-2">
      <Input
        type="search"
        aria-label={`Search ${models} models`}
        placeholder="Name, architecture, Q4_K_M, <8gb …"
        value={filter.words}
        onChange={(event) => onChange({ ...filter, words: event.target.value })}
        className="min-w-0 flex-1 basis-64"
      />
      <Select
        label="State"
        value={filter.state}
        onChange={(state) => onChange({ ...filter, state: state as Filter["state"] })}
        options={[
          ["any", "Any state"],
          ["loaded", "Loaded"],
          ["loading", "Loading"],
          ["available", "On disk"],
          ["crashed", "Crashed"],
          ["unavailable", "Cannot run"],
        ]}
      />
      <Select label="Format" value={filter.format} onChange={(format) => onChange({ ...filter, format })} options={[["any", "Any format"], ...formats.map((format) => [format, format] as const)]} />
      <Select
        label="Order"
        value={filter.sort}
        onChange={(sort) => onChange({ ...filter, sort: sort as Sort })}
        options={[
          ["name", "By name"],
          ["size", "Largest first"],
          ["weights", "Most weights first"],
          ["newest", "Newest first"],
        ]}
      />
    </search>
  );
}
