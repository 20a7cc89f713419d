import java.io.ByteArrayInputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.Security;
import java.security.cert.CertPathValidator;
import java.security.cert.CertPathValidatorException;
import java.security.cert.CertStore;
import java.security.cert.CertificateFactory;
import java.security.cert.CollectionCertStoreParameters;
import java.security.cert.PKIXParameters;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;

import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.x509.ExtendedPKIXParameters;

/** Validates certificates by PKIX with base and delta CRLs: Deltas ROOT ISSUING CRL,CRL,... LEAF..., all PEM. One line of "name: good" or what is wrong for each. */
public class Deltas {
    public static void main(String[] args) throws Exception {
        Security.addProvider(new BouncyCastleProvider());
        CertificateFactory factory = CertificateFactory.getInstance("X.509", "BC");
        List<Object> known = new ArrayList<>();
        for (String crl : args[2].split(",")) {
            known.add(factory.generateCRL(read(crl)));
        }
        X509Certificate root = (X509Certificate) factory.generateCertificate(read(args[0]));
        X509Certificate issuing = (X509Certificate) factory.generateCertificate(read(args[1]));
        for (int i = 3; i < args.length; i++) {
            X509Certificate leaf = (X509Certificate) factory.generateCertificate(read(args[i]));
            ExtendedPKIXParameters parameters = (ExtendedPKIXParameters) ExtendedPKIXParameters.getInstance(new PKIXParameters(Set.of(new TrustAnchor(root, null))));
            parameters.setRevocationEnabled(true);
            parameters.setUseDeltasEnabled(true);
            parameters.addCertStore(CertStore.getInstance("Collection", new CollectionCertStoreParameters(known), "BC"));
            String answer = "good";
            try {
                CertPathValidator.getInstance("PKIX", "BC").validate(factory.generateCertPath(List.of(leaf, issuing)), parameters);
            } catch (CertPathValidatorException e) {
                answer = e.getMessage();
            }
            System.out.println(Path.of(args[i]).getFileName() + ": " + answer);
        }
    }

    private static ByteArrayInputStream read(String path) throws Exception {
        return new ByteArrayInputStream(Files.readAllBytes(Path.of(path)));
    }
}
