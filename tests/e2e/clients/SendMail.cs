// An old .NET program that sends one message, as thousands of line-of-business applications do:
//
//   SendMail HOST PORT starttls|plain USER PASSWORD SENDER RECIPIENT SUBJECT BODY-FILE ATTACHMENT-FILE
//
// It is compiled against the reference assemblies of the real .NET runtime and runs on it. Certificate
// verification is left at the framework's default, which is on.

using System;
using System.IO;
using System.Net;
using System.Net.Mail;
using System.Text;

public static class SendMail
{
    public static int Main(string[] arguments)
    {
        var host = arguments[0];
        var port = int.Parse(arguments[1]);
        var encrypted = arguments[2] == "starttls";

        using (var client = new SmtpClient(host, port))
        using (var message = new MailMessage(arguments[5], arguments[6]))
        {
            client.EnableSsl = encrypted;
            client.UseDefaultCredentials = false;
            client.Credentials = new NetworkCredential(arguments[3], arguments[4]);
            client.Timeout = 60000;

            message.Subject = arguments[7];
            message.SubjectEncoding = Encoding.UTF8;
            message.Body = File.ReadAllText(arguments[8], Encoding.UTF8);
            message.BodyEncoding = Encoding.UTF8;
            message.Attachments.Add(new Attachment(arguments[9], "application/octet-stream"));
            try
            {
                client.Send(message);
            }
            catch (SmtpException refusal)
            {
                Console.Error.WriteLine("{0}: {1}", refusal.StatusCode, refusal);
                return 1;
            }
        }
        return 0;
    }
}
