import { useState } from "react";
import { useModels } from "../api/queries";
import { GROUPS, parse, type Setting, show } from "../lib/sampling";
import { Input, Labelled, Select, TextArea } from "../ui/Field";
import { cx } from "../ui/classes";
import { edit } from "./session";
import type { Conversation, Format, Settings } from "./types";

function change(to: Partial<Settings>): void {
  edit((conversation) => ({ ...conversation, settings: { ...conversation.settings, ...to } }));
}

/** What a conversation's answers are made with. What is empty is left to the server. */
export function SettingsPanel({ conversation }: { conversation: Conversation }) {
  const { settings } = conversation;
  const model = useModels().data?.find((model) => model.id === conversation.model);
  // What a model can do is known once it was loaded.
  const known = model && model.state === "loaded" ? model.capabilities : null;
  return (
    <div className="flex flex-col gap-6">
      <Labelled label="System prompt" hint="Stands before the conversation.">
        {(id, hint) => (
          <TextArea
            id={id}
            aria-describedby={hint}
            rows={4}
            value={conversation.system}
            onChange={(event) => {
              const system = event.target.value;
              edit((now) => ({ ...now, system }));
            }}
          />
        )}
      </Labelled>
      <section className="flex flex-col gap-3">
        <h3 className="label">Form of the answer</h3>
        <Select
          label="Form"
          value={settings.format}
          onChange={(format) => change({ format: format as Format })}
          options={[
            ["text", "Text"],
            ["json_object", "Any JSON object"],
            ["json_schema", "JSON by a schema"],
          ]}
        />
        {settings.format === "json_schema" && (
          <JsonBox label="JSON schema" hint="The answer is kept to it while it is written." value={settings.schema} onChange={(schema) => change({ schema })} example='{"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}' />
        )}
      </section>
      <section className="flex flex-col gap-3">
        <h3 className="label">Tools</h3>
        <JsonBox
          label="Functions that the model may call"
          hint="A JSON list, as OpenAI's API takes it. The page shows the calls and asks you for the results."
          value={settings.tools}
          onChange={(tools) => change({ tools })}
          example='[{"name": "weather", "description": "The weather of a place", "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}}]'
        />
        {settings.tools.trim() !== "" && (
          <Select
            label="May it call?"
            hideLabel={false}
            value={settings.toolChoice}
            onChange={(choice) => change({ toolChoice: choice as Settings["toolChoice"] })}
            options={[
              ["auto", "As it likes"],
              ["required", "It must"],
              ["none", "It must not"],
            ]}
          />
        )}
      </section>
      <label className="flex items-start gap-2.5">
        <input type="checkbox" checked={settings.probabilities} onChange={(event) => change({ probabilities: event.target.checked })} className="mt-1 size-4 accent-accent" />
        <span>
          <span className="text-[14px] font-medium">Keep token probabilities</span>
          <span className="block text-[13px] text-faint">Of the next answers: each token with the five most probable ones.</span>
        </span>
      </label>
      {GROUPS.map((group) => (
        <section key={group.title} className="flex flex-col gap-3.5">
          <h3 className="label">{group.title}</h3>
          {group.settings.map((setting) => (
            <SettingField key={setting.name} setting={setting} settings={settings} lacking={known !== null && !known.includes(setting.needs)} />
          ))}
        </section>
      ))}
    </div>
  );
}

function SettingField({ setting, settings, lacking }: { setting: Setting; settings: Settings; lacking: boolean }) {
  const value = settings.sampling[setting.name];
  const [text, setText] = useState(() => show(value));
  const [problem, setProblem] = useState<string | null>(null);
  const keep = (next: string) => {
    setText(next);
    const read = parse(setting, next);
    setProblem(read.problem ?? null);
    if (read.problem) return;
    const { [setting.name]: _, ...others } = settings.sampling;
    change({ sampling: read.value === undefined ? others : { ...others, [setting.name]: read.value } });
  };
  if (setting.kind === "flag") {
    return (
      <label className="flex items-start gap-2.5">
        <input
          type="checkbox"
          checked={value === true}
          onChange={(event) => {
            const { [setting.name]: _, ...others } = settings.sampling;
            change({ sampling: event.target.checked ? { ...others, [setting.name]: true } : others });
          }}
          className="mt-1 size-4 accent-accent"
        />
        <span>
          <span className="text-[14px] font-medium">{setting.label}</span>
          <span className="block text-[13px] text-faint">{setting.meaning}</span>
        </span>
      </label>
    );
  }
  const hint = problem ?? (lacking ? "The chosen model cannot do this." : setting.meaning);
  const several = setting.kind === "texts" || setting.kind === "biases";
  return (
    <Labelled label={setting.label} hint={<span className={cx((problem || lacking) && "text-bad")}>{hint}</span>}>
      {(id, hintId) =>
        several ? (
          <TextArea id={id} aria-describedby={hintId} aria-invalid={problem !== null} rows={2} placeholder={setting.usual} value={text} onChange={(event) => keep(event.target.value)} className="font-mono text-[13px]" />
        ) : (
          <Input
            id={id}
            aria-describedby={hintId}
            aria-invalid={problem !== null}
            inputMode="decimal"
            placeholder={setting.usual}
            value={text}
            onChange={(event) => keep(event.target.value)}
            className="font-mono text-[13px]"
          />
        )
      }
    </Labelled>
  );
}

function JsonBox({ label, hint, value, onChange, example }: { label: string; hint: string; value: string; onChange: (text: string) => void; example: string }) {
  let problem: string | null = null;
  try {
    if (value.trim()) JSON.parse(value);
  } catch (error) {
    problem = error instanceof Error ? error.message : String(error);
  }
  return (
    <Labelled label={label} hint={problem ? <span className="text-bad">{problem}</span> : hint}>
      {(id, hintId) => (
        <TextArea id={id} aria-describedby={hintId} aria-invalid={problem !== null} rows={5} spellCheck={false} placeholder={example} value={value} onChange={(event) => onChange(event.target.value)} className="font-mono text-[12.5px]" />
      )}
    </Labelled>
  );
}
