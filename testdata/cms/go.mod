module gatehouse.test/cms

go 1.26.0

require (
	gatehouse v0.0.0
	github.com/smallstep/pkcs7 v0.2.3
)

require golang.org/x/crypto v0.57.0 // indirect

replace gatehouse => ../..
