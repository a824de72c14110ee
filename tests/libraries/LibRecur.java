import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import org.dmfs.rfc5545.DateTime;
import org.dmfs.rfc5545.recur.InvalidRecurrenceRuleException;
import org.dmfs.rfc5545.recur.RecurrenceRule;
import org.dmfs.rfc5545.recur.RecurrenceRuleIterator;

/** Reads lines of "rule start count" and answers each with that many days of the rule, in the order of the lines.
 *  A question mark ends an answer that the library gives up on. */
class LibRecur {
    public static void main(String[] arguments) throws IOException, InvalidRecurrenceRuleException {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] asked = line.split(" ");
            RecurrenceRule rule = new RecurrenceRule(asked[0], RecurrenceRule.RfcMode.RFC5545_STRICT);
            StringBuilder answer = new StringBuilder();
            try {
                RecurrenceRuleIterator days = rule.iterator(DateTime.parse(asked[1]));
                for (int left = Integer.parseInt(asked[2]); left > 0 && days.hasNext(); left--) {
                    answer.append(days.nextDateTime()).append(' ');
                }
            } catch (RuntimeException gaveUp) {
                answer.append('?');
            }
            out.println(answer.toString().trim());
        }
        out.flush();
    }
}
