/**
 * Answers as Markdown. React elements are made of it, never HTML: what a model writes as HTML is shown as text, links
 * lead only to the web and to mail, and pictures are links, for nothing is fetched from elsewhere.
 */
import "./code.css";
import { memo, useMemo } from "react";
import ReactMarkdown, { type Components } from "react-markdown";
import rehypeHighlight from "rehype-highlight";
import remarkGfm from "remark-gfm";
import { blocks } from "../lib/blocks";
import { Copy } from "../ui/Copy";

const components: Components = {
  a: ({ href, children }) =>
    href ? (
      <a href={href} target="_blank" rel="noopener noreferrer nofollow" className="text-accent underline decoration-accent/40 underline-offset-2 hover:decoration-accent">
        {children}
      </a>
    ) : (
      <span>{children}</span>
    ),
  img: ({ src, alt }) => (
    <span className="rounded border border-line px-1.5 py-0.5 text-[0.9em] text-faint">
      picture not fetched: {alt || (typeof src === "string" ? src : "without a description")}
    </span>
  ),
  pre: ({ children, node }) => {
    const code = node?.children[0];
    const text = code?.type === "element" ? textOf(code) : "";
    const classes = code?.type === "element" ? code.properties.className : undefined;
    const language = Array.isArray(classes) ? classes.find((name): name is string => typeof name === "string" && name.startsWith("language-"))?.slice(9) : undefined;
    return (
      <div className="my-3 overflow-hidden rounded-lg border border-line bg-sunken">
        <div className="flex items-center justify-between border-b border-line py-0.5 pr-1 pl-3 text-[12.5px] text-faint">
          <span>{language ?? "code"}</span>
          <Copy text={text} label="Copy the code" />
        </div>
        <pre tabIndex={0} className="overflow-x-auto p-3 text-[13px] leading-relaxed">
          {children}
        </pre>
      </div>
    );
  },
  table: ({ children }) => (
    <div className="my-3 overflow-x-auto" tabIndex={0} role="region" aria-label="table">
      <table className="border-collapse text-[14px] [&_td]:border [&_td]:border-line [&_td]:px-2.5 [&_td]:py-1 [&_th]:border [&_th]:border-line [&_th]:bg-sunken [&_th]:px-2.5 [&_th]:py-1 [&_th]:text-left">
        {children}
      </table>
    </div>
  ),
};

interface HastNode {
  type: string;
  value?: string;
  children?: HastNode[];
}

function textOf(node: HastNode): string {
  return node.value ?? node.children?.map(textOf).join("") ?? "";
}

const Block = memo(function Block({ text }: { text: string }) {
  return (
    <ReactMarkdown remarkPlugins={[remarkGfm]} rehypePlugins={[[rehypeHighlight, { detect: false }]]} components={components}>
      {text}
    </ReactMarkdown>
  );
});

export function Markdown({ text }: { text: string }) {
  const parts = useMemo(() => blocks(text), [text]);
  return (
    <div className="prose">
      {parts.map((part, at) => (
        <Block key={at} text={part} />
      ))}
    </div>
  );
}
