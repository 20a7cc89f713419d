package probe

// fault is an error that Entra ID shows to the user who signs in (Microsoft, "Certificate-based authentication: certificate revocation list"), with what
// the administrator of the CRL can do about it.
type fault struct{ code, remedy string }

// The faults that a look from outside can tell. Some causes have no code of their own: they are under the one that comes nearest.
var (
	notValid    = fault{"AADSTS500172", "publish a new one: Entra ID refuses what is not valid, and does not wait; check also the clock of the CA"}
	badStatus   = fault{"AADSTS500173", "serve it with HTTP status 200 to everybody: 403 is usually a firewall that does not let Microsoft's addresses through; redirects are not followed"}
	notACRL     = fault{"AADSTS500174", "serve a CRL of version 2 by RFC 5280, section 5, without extensions that a relying party must understand and does not"}
	noBase      = fault{"AADSTS500177", "enter the URL of the base CRL in the tenant as well: a delta alone is not accepted"}
	noSegments  = fault{"AADSTS500178", "publish a base CRL, and then a delta CRL that refers to it or to an older one; serve both together"}
	unreachable = fault{"AADSTS500178", "make the host name resolve and the port answer from the internet"}
	notDER      = fault{"AADSTS2205011", "serve the CRL in DER, not PEM: openssl crl -inform PEM -outform DER"}
	tooSlow     = fault{"AADSTS2205012", "serve it faster: from memory or disk, near the internet, or make it smaller with a new issuing CA"}
	tooBig      = fault{"AADSTS2205014", "put a new issuing CA in force (`postern issuer rotate`): the old one's list shrinks as its certificates expire"}
	badSigner   = fault{"AADSTS2205015", "sign CRLs with the key of the very CA certificate that is uploaded to the tenant, and name it: issuer, authority key identifier"}

	badURL = fault{"", "use http://HOST/PATH/NAME.crl: plain HTTP, an extension in the last part of the path, and no query; Microsoft's own checker refuses the rest"}
)
