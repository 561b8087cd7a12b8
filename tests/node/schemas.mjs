// Reads entries of lists with the schemas of both major versions of the SDK.
//
// stdin: {"tools": [...], "prompts": [...], "resources": [...], "resource_templates": [...]}; with "legacy" as argument, the
// schemas of 1.x alone. stdout: what cannot be read, a line each.
import { readFileSync } from "node:fs";
import * as first from "@modelcontextprotocol/sdk/types.js";
import * as second from "@modelcontextprotocol/core";

const KINDS = {
  tools: "ToolSchema",
  prompts: "PromptSchema",
  resources: "ResourceSchema",
  resource_templates: "ResourceTemplateSchema",
};
const versions = process.argv[2] === "legacy" ? { first } : { second };
for (const [kind, entries] of Object.entries(JSON.parse(readFileSync(0, "utf8")))) {
  for (const entry of entries) {
    for (const [version, schemas] of Object.entries(versions)) {
      const read = schemas[KINDS[kind]].safeParse(entry);
      if (!read.success) {
        console.log(version, kind, JSON.stringify(entry), JSON.stringify(read.error.issues.map((one) => [one.path.join("."), one.message])));
      }
    }
  }
}
