import com.google.cloud.tools.jib.api.Containerizer;
import com.google.cloud.tools.jib.api.Jib;
import com.google.cloud.tools.jib.api.RegistryImage;
import com.google.cloud.tools.jib.api.buildplan.AbsoluteUnixPath;
import java.nio.file.Path;
import java.util.List;

/** What jib's plugins for Maven and Gradle do with jib-core: Push BASE|scratch IMAGE FILE CACHE. Prints the digest. */
public class Push {
  public static void main(String[] arguments) throws Exception {
    var base = arguments[0].equals("scratch") ? Jib.fromScratch() : Jib.from(RegistryImage.named(arguments[0]));
    var image =
        base.addLayer(List.of(Path.of(arguments[2])), AbsoluteUnixPath.get("/app"))
            .containerize(
                Containerizer.to(RegistryImage.named(arguments[1]))
                    .setAllowInsecureRegistries(true)
                    .setBaseImageLayersCache(Path.of(arguments[3], "base"))
                    .setApplicationLayersCache(Path.of(arguments[3], "application")));
    System.out.println(image.getDigest());
    System.exit(0); // its pool of threads would keep the process for a minute
  }
}
