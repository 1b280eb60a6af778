// A Node.js program that tells Mebae of one lead, by the SDK named on its command line, unchanged.
//   node node_clients.cjs segment|rudderstack ADDRESS KEY story|track
// What went wrong is its last line of output; nothing is the best news.
const [, , which, address, key, what] = process.argv
const failures = []

function story(client) {
  client.page({ anonymousId: 'browser-1', name: '料金', properties: { url: 'https://example.jp/pricing?utm_source=news' } })
  client.identify({
    userId: 'u-1024', anonymousId: 'browser-1', traits: { email: 'hanako.yamada@aoba.example.jp', name: '山田 花子', title: '部長' },
  })
  client.track({
    userId: 'u-1024', event: 'Whitepaper Downloaded', properties: { content: 'whitepaper-7' },
    timestamp: new Date(Date.now() - 2 * 3600 * 1000),
  })
  client.screen({ userId: 'u-1024', name: 'Settings', properties: { tab: 'billing' } })
  client.group({ userId: 'u-1024', groupId: 'g-7', traits: { name: '青葉精機', industry: '製造業', employees: 120, plan: 'pro' } })
  client.alias({ userId: 'u-2048', previousId: 'u-1024' })
}

function track(client) {
  for (let number = 0; number < 3; number++) {
    client.track({ userId: 'hanako.yamada@aoba.example.jp', event: 'Trial Started', properties: { number } })
  }
}

async function segment(use) {
  const { Analytics } = require('@segment/analytics-node')
  const client = new Analytics({ writeKey: key, host: address, flushInterval: 200 })
  client.on('error', (error) => failures.push(String(error.reason ?? error.code ?? error)))
  use(client)
  await client.closeAndFlush()
}

async function rudderstack(use) {
  const loaded = require('@rudderstack/rudder-sdk-node')
  const client = new (loaded.default ?? loaded)(key, { dataPlaneUrl: address, flushInterval: 200 })
  use(client)
  // Its first event goes out by itself at once; flush() sends what waits, and says when it is through.
  await client.flush()
  await new Promise((done) => setTimeout(done, 300))
}

const use = what === 'story' ? story : track
;(which === 'segment' ? segment(use) : rudderstack(use)).then(
  () => {
    console.log(failures.join('; '))
    process.exit(0)
  },
  (error) => {
    console.log(`${failures.join('; ')} ${error}`)
    process.exit(1)
  },
)
