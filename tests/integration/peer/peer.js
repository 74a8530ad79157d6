// Carries out the operations that standard input lists, with a BACnet stack that is not ours, and prints what came back.
//
// Input:  {"address": "127.0.20.1:47808", "interface": "127.0.20.250", "port": 47900, "operations": [{"do": "read", …}]}
// Output: [{"ok": …} or {"error": "…"}], one for each operation, in order.

const { readFileSync } = require('node:fs')
const Bacnet = require('@bacnet-js/client').default

const input = JSON.parse(readFileSync(0, 'utf8'))
const client = new Bacnet({ interface: input.interface, port: input.port, apduTimeout: 3000 })
const device = { address: input.address }

function once(event, milliseconds, start) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${event} in time`)), milliseconds)
    client.once(event, (message) => {
      clearTimeout(timer)
      resolve(message.payload)
    })
    start()
  })
}

function collect(event, wanted, milliseconds) {
  return new Promise((resolve) => {
    const seen = []
    const timer = setTimeout(() => resolve(seen), milliseconds)
    client.on(event, (message) => {
      seen.push(message.payload)
      if (seen.length === wanted) {
        clearTimeout(timer)
        resolve(seen)
      }
    })
  })
}

const object = (operation) => ({ type: operation.type, instance: operation.instance })

const operations = {
  whoIs: () => once('iAm', 3000, () => client.whoIs(device)),
  read: (o) => client.readProperty(device, object(o), o.property, o.index === undefined ? {} : { arrayIndex: o.index }),
  readMultiple: (o) =>
    client.readPropertyMultiple(
      device,
      o.objects.map((wanted) => ({
        objectId: object(wanted),
        properties: wanted.properties.map((id) => ({ id })),
      })),
    ),
  write: (o) => client.writeProperty(device, object(o), o.property, [o.value], { priority: o.priority }),
  subscribe: async (o) => {
    const seen = collect('covNotifyUnconfirmed', o.notifications, o.milliseconds)
    await client.subscribeCov(device, object(o), 7, false, false, 60)
    return seen
  },
}

async function run() {
  const results = []
  for (const operation of input.operations) {
    try {
      const value = await operations[operation.do](operation)
      results.push({ ok: value === undefined ? null : value })
    } catch (error) {
      results.push({ error: error.message })
    }
  }
  client.close()
  // Not-a-number is no JSON: it is said in words.
  process.stdout.write(JSON.stringify(results, (_, value) => (Number.isNaN(value) ? 'NaN' : value)))
}

client.once('listening', run)
