import { told } from "../api/client";
import { usePlugins } from "../api/queries";
import type { PluginRecord } from "../api/types";
import { Empty, Page, Problem } from "../ui/Panel";
import { State, type Tone } from "../ui/State";
import { cx } from "../ui/classes";

const STATES: Record<PluginRecord["state"], [Tone, string]> = {
  loaded: ["good", "Loaded"],
  disabled: ["idle", "Disabled"],
  untrusted: ["bad", "Not trusted"],
  hash_mismatch: ["bad", "Another file than pinned"],
  not_a_plugin: ["bad", "No plugin"],
  unsupported_platform: ["bad", "For another machine"],
  incompatible_api: ["bad", "For another host"],
  abi_mismatch: ["bad", "Built differently"],
  load_failed: ["bad", "Cannot be opened"],
  manifest_mismatch: ["bad", "Not what it says"],
  duplicate_plugin: ["warn", "There twice"],
  duplicate_format: ["warn", "Its formats are taken"],
  init_failed: ["bad", "Refused to start"],
  crashed: ["bad", "Crashed"],
  quarantined: ["bad", "Kept out"],
};

export function PluginsPage() {
  const { data: plugins, error } = usePlugins();
  return (
    <Page title="Plugins" lead="Each model format is a plugin: a library in the plugin folder. Drop one in, replace it or take it out: this page follows at once.">
      {error && <Problem>{told(error)}</Problem>}
      {plugins?.length === 0 && (
        <Empty title="No plugin was found">
          Without one no model can be served. <code>make plugins</code> builds those that come with Impetus and puts them into the plugin folder.
        </Empty>
      )}
      <ul aria-label="Plugins" className="flex flex-col gap-4">
        {plugins?.map((plugin) => (
          <Plugin key={`${plugin.id} ${plugin.path} ${plugin.superseded}`} plugin={plugin} />
        ))}
      </ul>
    </Page>
  );
}

function Plugin({ plugin }: { plugin: PluginRecord }) {
  const [tone, word] = STATES[plugin.state];
  return (
    <li className={cx("rounded-xl border bg-panel", tone === "bad" ? "border-bad/50" : "border-line")} data-plugin={plugin.id}>
      <div className="flex flex-wrap items-baseline gap-x-3 gap-y-1 px-4 pt-3.5">
        <h2 className="text-[17px] font-semibold">{plugin.id}</h2>
        {plugin.version && <span className="figures text-faint">{plugin.version}</span>}
        <span className="ml-auto">
          <State tone={plugin.superseded ? "busy" : tone}>{plugin.superseded ? "Replaced, still running" : word}</State>
        </span>
      </div>
      <div className="px-4 pt-0.5 pb-4">
        <p className="text-soft">{plugin.name ?? plugin.path}</p>
        {plugin.reason && <p className="mt-2 break-words text-bad">{plugin.reason}</p>}
        {plugin.hint && <p className="mt-1 break-words">{plugin.hint}</p>}
        {plugin.formats.length > 0 && (
          <ul aria-label={`Formats of ${plugin.id}`} className="mt-3 flex flex-wrap gap-2">
            {plugin.formats.map((format) => (
              <li key={format.id} className={cx("rounded-lg border px-2.5 py-1 text-[13.5px]", format.active ? "border-accent/50 bg-accent-soft" : "border-line text-faint")}>
                <strong className="font-semibold">{format.id}</strong> {format.extensions.map((ending) => `.${ending}`).join(" ")}
                {!format.active && (format.shadowed_by ? `, run by ${format.shadowed_by}` : ", not run")}
              </li>
            ))}
          </ul>
        )}
        <details className="mt-3 text-[13.5px] text-soft">
          <summary className="w-fit font-medium text-faint hover:text-ink">More</summary>
          <dl className="mt-2 grid gap-x-4 gap-y-1 sm:grid-cols-[9rem_minmax(0,1fr)]">
            {(
              [
                ["Library", plugin.path],
                ["SHA-256", plugin.sha256],
                ["Contract", plugin.api_version && `${plugin.api_version}; this host has ${plugin.host_api_version}`],
                ["Built with", plugin.build],
                ["Licence", plugin.license],
                ["Detail", plugin.detail],
              ] as const
            )
              .filter(([, value]) => value)
              .map(([name, value]) => (
                <div key={name} className="contents">
                  <dt className="text-faint">{name}</dt>
                  <dd className="font-mono text-[12.5px] break-all whitespace-pre-wrap">{value}</dd>
                </div>
              ))}
          </dl>
        </details>
      </div>
    </li>
  );
}
