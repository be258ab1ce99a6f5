// What the web SDKs find in a browser and Node has not: `window` with its `localStorage`, WebSockets that say which page
// opened them, and the rules of `fetch` for a server of another origin. Needs `node --experimental-websocket`.

import { load } from './touring.mjs';

/** The page that the SDK is part of; a test may move it to another `origin`, and look at its `answers`' headers. */
export const page = { origin: 'http://localhost:3000', answers: [] };

const stored = new Map();

export const localStorage = {
  getItem: (name) => stored.get(name) ?? null,
  setItem: (name, value) => stored.set(name, String(value))
};

globalThis.window = { localStorage, console, setTimeout };

/** Its messages and the code it was closed with stay to be looked at, as in a browser's network panel. */
globalThis.WebSocket = class extends WebSocket {
  messages = [];
  closedWith = null;

  constructor(url) {
    super(url, { headers: { origin: page.origin } });
    this.addEventListener('message', (event) => this.messages.push(JSON.parse(event.data)));
    this.addEventListener('close', (event) => (this.closedWith = event.code));
  }
};

/** Give the SDKs, which call `cross-fetch`, a fetch that does what a browser's does: ask before, and hide answers. */
export function guardFetch(folder) {
  const crossFetch = load(folder, 'cross-fetch');
  const fetch = crossFetch.fetch;

  const listed = (answer, name) => (answer.headers.get(name) ?? '').toLowerCase().split(', ');
  function demand(condition, what) {
    if (!condition) {
      throw new TypeError(`Failed to fetch: ${what}`);
    }
  }
  function demandShown(answer) {
    const { headers } = answer;
    demand(headers.get('access-control-allow-origin') === page.origin, 'another origin');
    demand(headers.get('access-control-allow-credentials') === 'true', 'no credentials');
    return answer;
  }

  crossFetch.fetch = async (url, { method, headers, body }) => {
    const names = Object.keys(headers).map((name) => name.toLowerCase());
    const asked = { 'access-control-request-method': method, 'access-control-request-headers': names.join(',') };
    const preflight = demandShown(await fetch(url, { method: 'OPTIONS', headers: { ...asked, origin: page.origin } }));
    demand(preflight.ok, `the preflight was answered ${preflight.status}`);
    demand(listed(preflight, 'access-control-allow-methods').includes(method.toLowerCase()), method);
    const allowed = listed(preflight, 'access-control-allow-headers');
    for (const name of names) {
      demand(allowed.includes(name), name);
    }
    const answer = await fetch(url, { method, body, headers: { ...headers, origin: page.origin } });
    page.answers.push(answer.headers);
    return demandShown(answer);
  };
}
