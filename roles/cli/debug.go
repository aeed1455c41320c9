package cli

// Help for the roles that run alone: the format of package roles' debug files.

const debugCommon = ` is started by gatehouse serve. With --debug it runs alone in the
foreground, its code unchanged; standard input and output stand in for the other
processes: one JSON object per line (long ones are folded here), its kind under "kind".
What is 0, false or empty may be left out and is, but for numbers that name something.
Bytes are a string; those that are no UTF-8 are base64 under the key with "_base64"
behind it.

Any line can be answered with {"log":{...}}, what the role logs, or {"error":"..."}: the
line made no sense and changed nothing. The answers to a line come before the next is
read; the end of the input ends the program. For every role:
  {"kind":"STATS_GET"}                    is answered with STATS and its counters
  {"kind":"SHUTDOWN","drain_ms":1000}     tells the role to finish, as SIGTERM does
`

const debugRouter = `A broker's router` + debugCommon + `
Input: what cm/0 or cm/1 sends to the router. cm is 0 where it is missing; seq, the
number of a body, is then the next of that cm.
  {"kind":"OPEN","cm":0,"slot":1,"gen":1,"uid":1,"addr":"127.0.0.1","port":5000}
  {"kind":"CONNECT","slot":1,"gen":1,"json":"{\"verbose\":false}"}
  {"kind":"SUB","slot":1,"gen":1,"subject":"px.>","queue":"q","sid":"1"}
  {"kind":"UNSUB","slot":1,"gen":1,"sid":"1","max":5}
  {"kind":"PUB","slot":1,"gen":1,"seq":1,"len":2,"subject":"px.a","reply":"r"}
  {"kind":"ASK","slot":1,"gen":1,"subject":"$GATE.ticket","reply":"r","body":"{}"}
  PING, CONGESTED, RELIEVED with slot and gen; FAIL with code, too; CLOSED with reason,
  too; RESET with generation; from the parent: CM_GONE with cm and generation
  {"kind":"PROFILE","name":"desk","publish_allow":["px.>"],"subscribe_all":true,
   "modes":["fanout"],"last":true}
  {"kind":"SETTINGS","anonymous_profile":"desk","auth":false,"replace_instance":true,
   "request_timeout_ms":1000,"session_idle_ms":60000}
Profiles are one set up to the one with last, which is empty if that has no name. A
PROFILE without modes has all, without weight 1; it may also have publish_all,
publish_deny, subscribe_allow, subscribe_deny, types, request_types, responses, stamp,
request_organisations, transfer, system, rate, max_subscriptions, max_payload,
max_pending and max_age_ms.
What a SETTINGS does not name stays as it is. Where "auth" is true auth is asked:
  {"kind":"VERDICT","id":1,"try":1,"ok":true,"user":"alice","profile":"desk"}
answers a LOGIN with the same id and try; it may also have organisation.
  {"kind":"TICKET_SIGNED","id":1,"ticket":"a.b.c"}
answers a TICKET_SIGN; without ticket there is none.

A PUB may also have off, header_len, the bytes of its body that are headers, and what
they say to the broker, "facts":{"mode":"fanout","timeout":500}; there are also session,
end, to_type, to_organisation, and bad, which of them is malformed.

Output: what the router instructs a cm to do.
  {"kind":"SEND","cm":0,"slot":1,"gen":1,"data":"PONG\r\n","close":true}
  {"kind":"DELIVER","cm":0,"arena":0,"seq":1,"len":2,"subject":"px.a",
   "recipients":[{"slot":1,"gen":1,"sid":"1"}],"more":true}
  SESSION with slot, gen, open, and limits: max_payload, max_pending, rate
  HOLD, RESUME with slot and gen; to the parent: CM_FAULT with reason, DRAINED
  GREETING and CHALLENGES, as the cm's input has them, after RESET; "challenge" in an OPEN
  is the number of one of those
  LOGIN with id, try, addr, challenge and json, to auth, where "auth" is true
  TICKET_SIGN with id, connection, nonce, user, organisation and audience, to the parent
arena is the cm that has the body. A body that nobody gets leads to no instruction.
After a CM_FAULT with reason corrupt that cm is heard again after its CM_GONE.`

const debugCM = `A broker's cm` + debugCommon + `
The first lines say RESET, for a new process, and where clients can connect:
  {"listen":"127.0.0.1:40000"}

Output: what the cm tells the router of its clients, as the router's input has it
(see gatehouse router --help): OPEN, CONNECT, SUB, UNSUB, PUB, ASK, PING, FAIL, CLOSED,
CONGESTED, RELIEVED.

Input: what the router instructs the cm to do.
  {"kind":"SEND","slot":0,"gen":1,"data":"INFO {} \r\n"}
  {"kind":"SEND","slot":0,"gen":1,"data":"PONG\r\n","close":true}
  {"kind":"DELIVER","seq":1,"recipients":[{"slot":0,"gen":1,"sid":"1"}]}
  {"kind":"SESSION","slot":0,"gen":1,"open":true,"max_payload":100,"rate":10}
  {"kind":"HOLD","slot":0,"gen":1}        stops reading from a client
  {"kind":"RESUME","slot":0,"gen":1}
  {"kind":"GREETING","way":"tls","before_id":"INFO {","before_ip":" ","before_challenge":" ",
   "after":"} \r\n"}
  {"kind":"CHALLENGES","first":1,"texts":"..."}
With a GREETING for their way to connect, tcp, tls or unix, and CHALLENGES of 32 characters
each, the cm greets clients itself; OPEN says which challenge that was. Without, OPEN wants
a SEND of INFO.
A DELIVER is about the body that a PUB with that seq told of. off, len, header_len,
subject and reply are that PUB's, unless the line says otherwise; from is who sent it.
Without recipients it frees the body. open in a SESSION ends a login. What the parent says:
  {"kind":"KICK","id":1,"connection":7}   is answered with KICKED and what became of it`

const debugAuth = `A broker's auth` + debugCommon + `
Input: the users there are, of which the last line of a set has last; what the router
asks; and PEER, another router.
  {"kind":"USER","name":"alice","password":"$argon2id$...","profile":"desk","last":true}
  {"kind":"LOGIN","id":1,"addr":"127.0.0.1","challenge":"c","json":"{\"user\":\"alice\"}"}
  {"kind":"PEER"}
  {"kind":"ISSUER","environment":"orga","keys":["BASE64"],"organisations":["ORGA"],
   "last":true}
A USER may also have nkey and organisation; without a name it is whoever knows the
token. An ISSUER may have users and profile; a set of them holds with the users that
come after it. A LOGIN may have unix, tls and again; its try is the next number.

Output: what auth says of the client, and its log.
  {"kind":"VERDICT","id":1,"try":1,"ok":true,"credential":"password","user":"alice",
   "profile":"desk"}
  {"kind":"VERDICT","id":1,"try":1,"reason":"wrong_password","credential":"password"}`

const debugTLSD = `A broker's tlsd` + debugCommon + `
The first line says where callers connect, how is in the documentation of package
roles/tlsd/protocol:
  {"socket":"/tmp/gatehouse1/tlsd"}

Input: what sessions there may be, of which the last line of a set has last, and what the
parent has signed.
  {"kind":"TLS_POLICY","name":"api*","host":"api.example","port":443,
   "addresses":["192.0.2.7"],"roots":"-----BEGIN CERTIFICATE-----...","last":true}
  {"kind":"TLS_SIGNED","id":1,"signature_base64":"..."}
A TLS_POLICY may also have alpn, keep, idle_timeout_ms, revalidate_ms, and a certificate to
be shown, chain, with the number of its key, key. Whoever runs this may use the sessions.
A TLS_SIGNED without signature refuses.

Output: what tlsd wants to be signed, and its log.
  {"kind":"TLS_SIGN","id":1,"key":1,"scheme":1027,"input":"..."}`

const debugConsole = `A broker's console` + debugCommon + `
The first line says where browsers connect:
  {"listen":"127.0.0.1:40000"}

Input: what the others show of a connection, and what the parent says.
  {"kind":"CONN","cm":0,"slot":1,"uid":1,"addr":"127.0.0.1","port":5000,
   "user":"alice","name":"pricer/1","lang":"go","version":"1.52.0","subscriptions":2,
   "in_msgs":3,"out_msgs":4,"in_bytes":30,"out_bytes":40,"pending":0}
  {"kind":"CLOSED","cm":0,"slot":1}       that connection has ended
  {"kind":"STATUS","id":1,"text":"{}"}    what gatehouse status --json shows

Output: what the console asks the parent for, and its log.
  {"kind":"STATUS_GET","id":1}`

const debugDispatcher = `A broker's dispatcher` + debugCommon + `
The first line says where clients can connect:
  {"listen":"127.0.0.1:40000"}

Output: the connections handed to cm/0 and cm/1, which hang up at once but keep the
slot, and whether the handoff ticket is good.
  {"kind":"CONN_HANDOFF","cm":0,"slot":0,"uid":1,"addr":"127.0.0.1","port":50000,
   "ticket":"good"}

Input:
  {"kind":"CLOSED","cm":0,"slot":0}       the cm has closed that connection
  {"kind":"CM_GONE","cm":0}               the process of the cm has ended
  {"kind":"PEER","cm":0}                  a new one is there, and has closed the rest`
