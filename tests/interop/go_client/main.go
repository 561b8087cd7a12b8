// The client of the Go SDK on an endpoint of the gateway: go_client http|sse VERSION URL PREFIX. VERSION is the
// protocol version to ask for, or "latest". Prints what it saw as one JSON object.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func main() {
	log.SetFlags(0)
	kind, version, url, prefix := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	ctx := context.Background()
	progress := make(chan float64, 16)
	client := mcp.NewClient(&mcp.Implementation{Name: "go-test", Version: "1.0.0"}, &mcp.ClientOptions{
		ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"colour": "blue"}}, nil
		},
		CreateMessageHandler: func(context.Context, *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
			return &mcp.CreateMessageResult{Role: "assistant", Model: "m", Content: &mcp.TextContent{Text: "hello"}}, nil
		},
		ProgressNotificationHandler: func(_ context.Context, request *mcp.ProgressNotificationClientRequest) {
			progress <- request.Params.Progress
		},
	})
	var transport mcp.Transport = &mcp.StreamableClientTransport{Endpoint: url}
	if kind == "sse" {
		transport = &mcp.SSEClientTransport{Endpoint: url}
	}
	options := &mcp.ClientSessionOptions{}
	if version != "latest" {
		options.ProtocolVersion = version
	}
	session, err := client.Connect(ctx, transport, options)
	if err != nil {
		log.Fatal(err)
	}
	call := func(name string, arguments map[string]any) *mcp.CallToolResult {
		params := &mcp.CallToolParams{Name: prefix + "__" + name, Arguments: arguments}
		params.SetProgressToken(name)
		result, err := session.CallTool(ctx, params)
		if err != nil {
			log.Fatalf("%s: %v", name, err)
		}
		return result
	}
	text := func(name string, arguments map[string]any) string {
		return call(name, arguments).Content[0].(*mcp.TextContent).Text
	}

	tools := 0
	for _, err := range session.Tools(ctx, nil) {
		if err != nil {
			log.Fatal(err)
		}
		tools++
	}
	saw := map[string]any{
		"version": session.InitializeResult().ProtocolVersion,
		"tools":   tools,
		"echoed":  text("echo", map[string]any{"text": "héllo ✓"}),
		"failed":  call("fail", map[string]any{"message": "on purpose"}).IsError,
		"asked":   text("ask", nil),
		"sampled": text("sample", nil),
	}
	call("progress", map[string]any{"steps": 3})
	saw["progress"] = []float64{<-progress, <-progress, <-progress}
	_, err = session.CallTool(ctx, &mcp.CallToolParams{Name: "no_such_tool"})
	var refused *jsonrpc.Error
	if !errors.As(err, &refused) {
		log.Fatalf("an unknown tool: %v", err)
	}
	saw["unknown"] = refused.Code
	if err := session.Close(); err != nil {
		log.Fatal(err)
	}
	out, _ := json.Marshal(saw)
	fmt.Println(string(out))
}
