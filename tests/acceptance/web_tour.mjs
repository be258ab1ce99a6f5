// A tour of what users do, through an official web SDK `appwrite`, by the SDK's own methods.
//
//   node --experimental-websocket web_tour.mjs SDK ENDPOINT PROJECT KEY
//
// SDK is the folder that the package was installed into. The project has three functions that answer who called with
// what: `greet` for members, `cook` for chefs of the team `cooks`, `closed` for nobody. Given `slow`, they take a while.

import assert from 'node:assert/strict';
import { complete, eventually, load, refused } from './touring.mjs';
import { guardFetch, localStorage, page } from './web_page.mjs';

const [folder, endpoint, project, key] = process.argv.slice(2);
guardFetch(folder);
const sdk = load(folder, 'appwrite');

/** Return the SDK's client of a user, or of a guest. */
function visitor(token) {
  const client = sdk.Appwrite === undefined ? new sdk.Client() : new sdk.Appwrite();
  client.setEndpoint(endpoint).setProject(project);
  return token === undefined ? client : client.setJWT(token);
}

/** The generations differ in where the methods of a service are. */
const functionsOf = (client) => client.functions ?? new sdk.Functions(client);

/** The page's own backend: what users see nothing of, and who makes their tokens. */
const backend = visitor();
backend.headers['X-Appwrite-Key'] = key;

async function tokenOf(user, teams = []) {
  const url = new URL(`${endpoint}/users/${user}/jwts`);
  return (await backend.call('post', url, { 'content-type': 'application/json' }, { duration: 600, teams })).jwt;
}

const ids = (list) => list.map((item) => item.$id);
const isOver = (execution) => ['completed', 'failed'].includes(execution.status);

async function execute(ada) {
  const done = await ada.createExecution('greet', 'Hello êä', false);
  assert.deepEqual([done.status, done.statusCode, done.stderr, done.trigger], ['completed', 200, '', 'http']);
  assert.deepEqual([done.functionId, done.$read], ['greet', ['user:ada']]);
  assert.deepEqual(JSON.parse(done.response), { data: 'Hello êä', user: 'ada', jwt: '' });
  demandCounted(page.answers.at(-1));

  const waiting = await ada.createExecution('greet', 'Hello');
  assert.deepEqual([waiting.status, waiting.statusCode, waiting.response, waiting.time], ['waiting', 0, '', 0]);
  const later = await eventually(() => ada.getExecution('greet', waiting.$id), isOver);
  assert.equal(later.status, 'completed', later.stderr);
  assert.deepEqual(JSON.parse(later.response), { data: 'Hello', user: 'ada', jwt: '' });
  assert.equal(page.answers.at(-1).get('x-ratelimit-limit'), null);
  return [waiting.$id, done.$id];
}

/** Only executions are counted, and the caller is told (spec, section 12.2). */
function demandCounted(headers) {
  const [limit, remaining, reset] = ['limit', 'remaining', 'reset'].map((name) =>
    Number(headers.get(`x-ratelimit-${name}`))
  );
  const now = Date.now() / 1000;
  assert.equal(limit, 60);
  assert.ok(remaining >= 0 && remaining < 60, String(remaining));
  assert.ok(reset > now - 1 && reset < now + 61, String(reset));
  assert.equal(reset % 60, 0);
}

/** Everybody sees their own executions and no others. */
async function list(ada, bob, own) {
  const byKey = await functionsOf(backend).createExecution('greet', 'from the key', false);
  assert.deepEqual([byKey.status, byKey.$read], ['completed', []]);

  const seen = await ada.listExecutions('greet');
  assert.deepEqual([seen.total, ids(seen.executions)], [2, own]);
  assert.deepEqual(ids((await ada.listExecutions('greet', 1, 0, undefined, own[0])).executions), [own[1]]);
  assert.deepEqual(ids((await ada.listExecutions('greet', 1, 0, undefined, own[1], 'before')).executions), [own[0]]);
  const found = await ada.listExecutions('greet', undefined, undefined, own[1]);
  assert.deepEqual([found.total, ids(found.executions)], [1, [own[1]]]);
  await refused(404, 'execution_not_found', () => ada.getExecution('greet', byKey.$id));
  await refused(400, 'general_cursor_not_found', () => ada.listExecutions('greet', 1, 0, undefined, byKey.$id));

  assert.deepEqual(await bob.listExecutions('greet'), { total: 0, executions: [] });
  await refused(404, 'execution_not_found', () => bob.getExecution('greet', own[0]));
  await refused(400, 'general_cursor_not_found', () => bob.listExecutions('greet', 1, 0, undefined, own[0]));
  assert.equal((await functionsOf(backend).listExecutions('greet')).total, 3);
}

async function refuse(ada, bob) {
  const guest = functionsOf(visitor());
  await refused(401, 'user_unauthorized', () => guest.createExecution('greet', '', false));
  await refused(401, 'general_unauthorized_scope', () => guest.listExecutions('greet'));
  await refused(401, 'general_unauthorized_scope', () => guest.getExecution('greet', 'any'));
  for (const user of [ada, bob, guest]) {
    await refused(401, 'user_unauthorized', () => user.createExecution('closed', '', false));
  }
  assert.equal((await ada.createExecution('cook', '', false)).status, 'completed');
  await refused(401, 'user_unauthorized', () => bob.createExecution('cook', '', false));
  await refused(401, 'general_unauthorized_scope', () => ada.retryBuild('greet', 'any', 'any'));
  await refused(404, 'function_not_found', () => ada.createExecution('unknown', '', false));
  await refused(404, 'execution_not_found', () => ada.getExecution('greet', 'unknown'));

  const forged = `${(await tokenOf('ada')).slice(0, -8)}AAAAAAAA`;
  await refused(401, 'user_jwt_invalid', () => functionsOf(visitor(forged)).listExecutions('greet'));
  const lost = functionsOf(visitor().setProject('unknown'));
  await refused(404, 'project_not_found', () => lost.createExecution('greet', '', false));
}

/** A page of a platform that isn't registered gets nothing done. */
async function elsewhere(token) {
  const { origin } = page;
  page.origin = 'https://elsewhere.example';
  const client = visitor(token);
  const functions = functionsOf(client);
  const hidden = { message: 'Failed to fetch: another origin', code: 0 };
  await assert.rejects(functions.createExecution('closed', '', false), hidden);
  await assert.rejects(functions.createExecution('greet', '', false), hidden);
  await assert.rejects(functions.listExecutions('greet'), hidden);
  client.subscribe('executions', () => assert.fail('an event'));
  const message = 'Invalid Origin. Register your new client (elsewhere.example) as a new Web platform';
  await turnedAway(client, 1008, message);
  page.origin = origin;
  assert.equal((await functions.listExecutions('greet')).total, 2);
}

async function turnedAway(client, code, message) {
  const { socket } = client.realtime;
  const answered = socket ?? (await eventually(() => client.realtime.socket));
  await eventually(() => answered.closedWith !== null);
  assert.equal(answered.closedWith, code);
  assert.deepEqual(answered.messages.map((one) => [one.type, one.data.code]), [['error', code]]);
  assert.ok(answered.messages[0].data.message.startsWith(message), answered.messages[0].data.message);
}

/** Subscribe, and wait until the server says whose the SDK's new socket is; return what ends the subscription. */
async function subscribed(client, user, channels, callback) {
  const before = client.realtime.socket;
  const end = client.subscribe(channels, callback);
  const socket = await eventually(() => client.realtime.socket !== before && client.realtime.socket);
  const [connected, response] = await eventually(
    () => socket.messages,
    (messages) => messages.length >= (user === null ? 1 : 2)
  );
  assert.deepEqual([connected.type, connected.data.user], ['connected', null]);
  assert.deepEqual(connected.data.channels, [...client.realtime.channels]);
  if (user !== null) {
    assert.deepEqual([response.type, response.data.to, response.data.success], ['response', 'authentication', true]);
    assert.equal(response.data.user.$id, user);
  }
  return end;
}

/** From now on the page's storage holds what a sign-in leaves there: the SDK sends it over its sockets. */
function signIn(token) {
  localStorage.setItem('cookieFallback', JSON.stringify({ [`a_session_${project}`]: token }));
}

/** Look at an event of an execution (spec, section 11). */
function demandEvent(event, action, execution) {
  const { functionId: f, $id: e } = execution;
  assert.deepEqual(Object.keys(event).sort(), ['channels', 'events', 'payload', 'timestamp']);
  assert.deepEqual([...event.channels].sort(), ['console', 'executions', `executions.${e}`, `functions.${f}`]);
  assert.deepEqual(event.events, [
    `functions.${f}.executions.${e}.${action}`,
    `functions.*.executions.*.${action}`,
    `functions.${f}.executions.*.${action}`,
    `functions.*.executions.${e}.${action}`,
    `functions.${f}.executions.${e}`,
    'functions.*.executions.*',
    `functions.${f}.executions.*`,
    `functions.*.executions.${e}`,
    `functions.${f}`,
    'functions.*'
  ]);
  assert.ok(Number.isInteger(event.timestamp), String(event.timestamp));
  assert.ok(Math.abs(Date.now() / 1000 - event.timestamp) < 60, String(event.timestamp));
  for (const name of ['$id', '$read', 'functionId', 'trigger', 'status', 'statusCode', 'response', 'stderr', 'time']) {
    assert.deepEqual(event.payload[name], execution[name], name);
  }
}

async function listen(adaToken, bobToken) {
  const [ada, bob, guest] = [visitor(adaToken), visitor(bobToken), visitor()];
  const [all, ofGreet, ofCook, ofBob, ofGuest] = [[], [], [], [], []];

  await subscribed(guest, null, ['executions', 'functions.greet'], (event) => ofGuest.push(event));
  signIn(bobToken);
  await subscribed(bob, 'bob', ['executions', 'functions.greet'], (event) => ofBob.push(event));
  signIn(adaToken);
  ada.subscribe('functions.greet', (event) => ofGreet.push(event));
  ada.subscribe('functions.cook', (event) => ofCook.push(event));
  await subscribed(ada, 'ada', ['executions', 'functions.greet'], (event) => all.push(event));

  const functions = functionsOf(ada);
  const done = await functions.createExecution('greet', 'at once', false);
  await eventually(() => all.length >= 1);
  const waiting = await functions.createExecution('greet', 'later', true);
  await eventually(() => all.length >= 3);
  const later = await functions.getExecution('greet', waiting.$id);
  const cooked = await functions.createExecution('cook', 'at once', false);
  await eventually(() => all.length >= 4);
  assert.equal(all.length, 4, JSON.stringify(all));
  demandEvent(all[0], 'create', done);
  demandEvent(all[1], 'create', waiting);
  demandEvent(all[2], 'update', later);
  demandEvent(all[3], 'create', cooked);
  assert.equal(later.status, 'completed');
  assert.deepEqual(ofGreet, all.slice(0, 3));
  assert.deepEqual(ofCook, all.slice(3));

  await watch(ada, functions, all);

  // A key's executions are nobody's. Bob hears his own, and what anybody could have heard came before.
  await functionsOf(backend).createExecution('greet', 'from the key', false);
  const bobs = await functionsOf(bob).createExecution('greet', 'at once', false);
  await eventually(() => ofBob.length >= 1);
  assert.equal(ofBob.length, 1, JSON.stringify(ofBob));
  demandEvent(ofBob[0], 'create', bobs);
  assert.deepEqual(ofGuest, []);
  assert.ok(all.every((event) => event.payload.$read[0] === 'user:ada'));

  // What is no user's token leaves the socket a guest's; an unknown project has none.
  const { socket } = guest.realtime;
  socket.send(JSON.stringify({ type: 'authentication', data: { session: 'nobody' } }));
  const [, said] = await eventually(() => socket.messages, (messages) => messages.length >= 2);
  assert.deepEqual(said, { type: 'error', data: { code: 1003, message: 'Session is not valid.' } });
  assert.equal(socket.readyState, WebSocket.OPEN);
  const lost = visitor().setProject('unknown');
  lost.subscribe('executions', () => assert.fail('an event'));
  await turnedAway(lost, 1008, 'Missing or unknown project ID');
}

/** A further channel makes the SDK connect anew, and so does one less: what is subscribed to goes on. */
async function watch(ada, functions, all) {
  const [watched, others] = [[], []];
  const slow = await functions.createExecution('greet', 'slow', true);
  await eventually(() => all.at(-1).payload.$id === slow.$id);
  const endWatch = await subscribed(ada, 'ada', `executions.${slow.$id}`, (event) => watched.push(event));
  await eventually(() => watched.length >= 1);
  demandEvent(watched[0], 'update', await functions.getExecution('greet', slow.$id));
  endWatch();
  await subscribed(ada, 'ada', ['executions'], (event) => others.push(event));
  assert.ok(!ada.realtime.channels.has(`executions.${slow.$id}`));
  const after = await functions.createExecution('greet', 'at once', false);
  await eventually(() => others.length >= 1);
  demandEvent(others[0], 'create', after);
  assert.equal(watched.length, 1, JSON.stringify(watched));
}

const [adaToken, bobToken] = [await tokenOf('ada', ['cooks/chef']), await tokenOf('bob', ['cooks'])];
const [ada, bob] = [adaToken, bobToken].map((token) => functionsOf(visitor(token)));
const own = await execute(ada);
await list(ada, bob, own);
await refuse(ada, bob);
await elsewhere(adaToken);
await listen(adaToken, bobToken);
complete();
